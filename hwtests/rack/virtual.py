"""The ports of a virtual machine (hwtests/virtual): its agent over a serial port, and the controller itself at the far end of each NIC."""

from __future__ import annotations

import compileall
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from hwtests.rack.channel import Channel
from hwtests.rack.errors import RackError
from hwtests.rack.file import Port as PortFile
from hwtests.rack.file import RackFile
from hwtests.rack.machine import Machine, own_directory
from hwtests.rack.port import Port
from hwtests.rack.rack import ROOT, netc_here
from hwtests.rack.wire import SETTLE_SECONDS, AgentWire, Frame, Heard
from hwtests.virtual.errors import RackError as VirtualError

SIMULATED = "netdevsim"  # two ports of it, joined: the one under test, the other its wire
_FAR_MAC = "02:00:5e:00:53:{:02x}"  # what the controller's end of a wire sends from


_JOIN = 'exec 9< /proc/self/ns/net; cd /sys/class/net; echo "9:$(cat $1/ifindex) 9:$(cat $2/ifindex)" > /sys/bus/netdevsim/link_device'
"""netdevsim's cable between two of its devices: a namespace (its descriptor here) and a number for each."""


class ProcessWire:
    """A far end that is this process: a frame is one datagram of the emulated NIC's other side."""

    def __init__(self, wire: Any, mac: str) -> None:
        self.mac = mac
        self._wire = wire

    def send(self, frames: Sequence[bytes], count: int = 1, rate: float = 0) -> float:
        """Send all frames `count` times; a NIC that has no room is waited for. Raises RackError."""
        began, sent = time.monotonic(), 0
        try:
            for _ in range(count):
                for frame in frames:
                    self._wire.send(frame.ljust(60, b"\0"))  # what a real NIC pads, before the FCS
                    sent += 1
                    if rate and sent % 16 == 0:
                        time.sleep(max(0.0, began + sent / rate - time.monotonic()))
        except VirtualError as error:
            raise RackError(str(error)) from None
        return time.monotonic() - began

    @contextmanager
    def listening(self, snap: int = 0) -> Iterator[Heard]:
        """Frames that the NIC sends during the block. Raises RackError when the machine ends."""
        self._wire.drain()
        heard, stop, failed = Heard(), threading.Event(), list[str]()
        heard.seen = lambda: len(heard.frames)
        thread = threading.Thread(target=self._read, args=(heard, snap, stop, failed), daemon=True)
        thread.start()
        try:
            yield heard
            time.sleep(5 * SETTLE_SECONDS)  # an emulated NIC has its interrupts late
        finally:
            stop.set()
            thread.join()
        if failed:
            raise RackError(failed[0])

    def _read(self, heard: Heard, snap: int, stop: threading.Event, failed: list[str]) -> None:
        try:
            while not stop.is_set():
                frame = self._wire.receive(0.05)
                if frame is not None:
                    heard.frames.append(Frame(time.time(), len(frame), frame[:snap] if snap else frame))
        except VirtualError as error:
            failed.append(str(error))


@contextmanager
def ports(file: RackFile) -> Iterator[dict[str, Port]]:
    """Boot the machine with a NIC for each port of the file. Raises RackError: not fetched, or it did not come up."""
    from hwtests.virtual import machine as virtual_machine
    from hwtests.virtual import qemu

    wanted = file.machines[file.dut].virtual
    assert wanted
    real = {name: port for name, port in file.ports.items() if port.nic != SIMULATED}
    _compiled()
    try:
        nics = tuple(qemu.Nic(port.nic, port.queues) for port in real.values())  # type: ignore[arg-type]
        with virtual_machine.booted(nics, wanted.memory, wanted.cpus, simulated=(2, 4) if len(real) < len(file.ports) else None) as booted:
            stream = booted.stream.makefile("rb"), booted.stream.makefile("wb")
            channel = Channel(file.dut, *stream)  # type: ignore[arg-type]
            guest = Machine(file.dut, channel, "", netc_here(file.machines[file.dut].netc), own_directory())
            guest.prepare()
            guest = _warmed(guest)
            names = dict(zip(real, qemu.names(nics), strict=True))
            yield {name: _port(number, name, port, guest, booted, names) for number, (name, port) in enumerate(file.ports.items(), 1)}
            guest.ask("unwind", 0, timeout=120)
    except VirtualError as error:
        raise RackError(str(error)) from None


def _compiled() -> None:
    """Byte code of what the guest imports, beside the sources as Python puts it: the guest sees this tree and cannot write, and compiling takes it seconds.

    Where this process cannot write either, the guest compiles for itself.
    """
    for package in ("runtime", "compiler"):
        compileall.compile_dir(ROOT / package, quiet=2)


def _warmed(guest: Machine) -> Machine:
    """The same machine with netc imported once: under emulation that takes a second or two, each time."""
    path = f"{guest.work}/warm"
    python = str(Path(guest.netc_path).with_name("python"))
    guest.ask("start", [python, str(Path(__file__).with_name("warm.py")), path], cwd=str(ROOT), env={"PYTHONPATH": str(ROOT)})
    guest.run("sh", "-c", f"i=0; while [ ! -S {path} ] && [ $i -lt 1200 ]; do i=$((i + 1)); sleep 0.1; done; [ -S {path} ]", timeout=150)
    return replace(guest, warm=path)


def _port(number: int, name: str, file: PortFile, guest: Machine, booted: Any, names: dict[str, str]) -> Port:
    near, far = f"198.18.{number}.1/24", f"198.18.{number}.2/24"
    guest.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", status=None)
    if file.nic == SIMULATED:
        device, other = "nsim0", "nsim1"
        guest.run("sh", "-c", _JOIN, "sh", device, other)
        guest.run("ip", "link", "set", other, "up")
        mac = str(guest.json("ip", "-j", "link", "show", "dev", other)[0]["address"])
        return Port(name, guest, device, near, far, AgentWire(guest, other, mac), file.mbit, file.quirks)
    device = names[name]
    port = Port(name, guest, device, near, far, ProcessWire(booted.wires[device], _FAR_MAC.format(number)), file.mbit, file.quirks)
    port.cable = lambda plugged: booted.cable(device, plugged)
    return port
