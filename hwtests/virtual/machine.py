"""One virtual machine of the rack: `with booted(...) as machine:` gives a byte stream to the agent in it and a wire for each of its NICs.

It ends with the block, with this process (PR_SET_PDEATHSIG), and when the stream to its agent is closed. A panic, an oops or a hang is a RackError
with the last lines of the serial log.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hwtests.virtual import initrd, qemu, wires
from hwtests.virtual.errors import RackError
from hwtests.virtual.fetch import Rack, fetched
from hwtests.virtual.monitor import Monitor
from hwtests.virtual.qemu import Nic

PAIRS = (Nic("igb"), Nic("igb"), Nic("virtio", 4), Nic("virtio", 4), Nic("vmxnet3"), Nic("vmxnet3"), Nic("e1000e"), Nic("e1000e"))
SIMULATED = (2, 4)  # ports and queues of netdevsim: nsim0, nsim1
AGENT = Path(__file__).parents[1] / "rack/agent.py"
BOOT = 120.0  # seconds until the agent answers; 10 on a quiet machine
_ENDING = 20.0  # seconds for a guest to power off before it is killed
_PR_SET_PDEATHSIG = 1
_ALWAYS = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")
_libc = ctypes.CDLL(None, use_errno=True)


class Machine:
    """A booted machine. stream: a socket to its agent. wires: by the NIC's name in the guest. log: the serial console's file."""

    def __init__(self, process: subprocess.Popen[bytes], stream: socket.socket, far_ends: dict[str, wires.Wire], monitor: Monitor, log: Path) -> None:
        self.stream = stream
        self.wires = far_ends
        self.log = log
        self.process = process
        self._monitor = monitor

    def check(self) -> None:
        """Raises RackError, with the serial log's last lines, when the machine has ended."""
        if self.process.poll() is not None:
            raise RackError(f"the machine has ended (QEMU's status {self.process.returncode})\n{self.last_lines()}")

    def last_lines(self, count: int = 25) -> str:
        """The end of the serial log, and where the whole is."""
        text = "".join(path.read_text(errors="replace") for path in (self.log, _words(self.log)) if path.is_file())
        return "\n".join([*(f"  | {line}" for line in text.splitlines()[-count:]), f"  (serial log: {self.log})"])

    def cable(self, name: str, plugged: bool) -> None:
        """Pull the cable of the guest's device `name`, or put it back: the driver sees its carrier change. Raises RackError."""
        if name not in self.wires:
            raise RackError(f"no NIC {name} in this machine: {', '.join(self.wires)}")
        self._monitor.call("set_link", name=f"nic{list(self.wires).index(name)}", up=plugged)

    def run(self, *command: str, timeout: float = 60.0) -> subprocess.CompletedProcess[str]:
        """Run one command in the guest, for callers without a transport of their own. Raises RackError when it does not end in time."""
        answer = self.ask({"id": 0, "run": list(command), "timeout": timeout}, timeout + 10)
        if "error" in answer:
            raise RackError(f"{shlex.join(command)}: {answer['error']}")
        return subprocess.CompletedProcess(command, int(answer["code"]), answer["out"], answer["err"])

    def ask(self, request: dict[str, object], timeout: float) -> dict[str, str]:
        """One request to the agent and its answer. Raises RackError when there is none within `timeout` seconds, or the machine ends."""
        try:
            self.stream.sendall(json.dumps(request).encode() + b"\n")
        except OSError:  # the answer that does not come says more
            pass
        text, end = b"", time.monotonic() + timeout
        while not text.endswith(b"\n"):
            if not select.select([self.stream], [], [], max(0.0, min(1.0, end - time.monotonic())))[0]:
                self.check()
                if time.monotonic() > end:
                    raise RackError(f"the guest has not answered within {timeout:g} s\n{self.last_lines()}")
                continue
            try:
                data = self.stream.recv(1 << 20)
            except ConnectionResetError:
                data = b""
            if not data:
                self._wait(5.0)
                self.check()
                raise RackError(f"the guest's agent has ended\n{self.last_lines()}")
            text += data
        return dict(json.loads(text))

    def end(self) -> None:
        """Close the stream, which ends the agent and powers the guest off; kill it when it does not."""
        self.stream.close()
        if not self._wait(_ENDING):
            self.process.kill()
            self.process.wait()
        self._monitor.close()
        for wire in self.wires.values():
            wire.close()

    def _wait(self, seconds: float) -> bool:
        try:
            self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True


@contextmanager
def booted(nics: tuple[Nic, ...] = PAIRS, memory: int = 1536, cpus: int = 4, *, simulated: tuple[int, int] | None = SIMULATED, rack: Rack | None = None,
           log: Path | None = None, agent: Path = AGENT, patience: float = BOOT) -> Iterator[Machine]:  # fmt: skip
    """A machine whose agent answers. memory in MiB; simulated: ports and queues of netdevsim, or None; log: where the serial console is kept.

    Raises RackError: not fetched, no agent, no tap (root), or the guest did not come up within `patience` seconds.
    """
    rack = rack or fetched()
    if not agent.is_file():
        raise RackError(f"the guest's agent {agent} is not there")
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="netc-rack-")))
        machine = _start(rack, nics, memory, cpus, simulated, log or _log(rack), scratch, f"{sys.executable} {agent}")
        stack.callback(machine.end)
        machine.ask({"id": 0, "ping": True}, patience)
        yield machine
    if not log:  # nothing happened that anyone will look for
        machine.log.unlink(missing_ok=True)
        _words(machine.log).unlink(missing_ok=True)


def shell(nics: tuple[Nic, ...], rack: Rack, where: Path, memory: int = 1536, cpus: int = 4) -> int:
    """A shell on the machine's console, on this terminal. Returns QEMU's exit status."""
    with tempfile.TemporaryDirectory(prefix="netc-rack-") as scratch:
        files = _initrd(rack, nics, SIMULATED, Path(scratch), agent="", where=str(where))
        far_ends, arguments, given = _plug_in(nics)
        command = [str(rack.qemu), *qemu.machine_arguments(rack.kernel, files, memory, cpus), *arguments, "-serial", "stdio"]
        try:
            return subprocess.run(command, env=_environment(rack), pass_fds=given).returncode
        finally:
            _close(given)
            for wire in far_ends.values():
                wire.close()


def _start(rack: Rack, nics: tuple[Nic, ...], memory: int, cpus: int, simulated: tuple[int, int] | None, log: Path, scratch: Path, agent: str) -> Machine:
    files = _initrd(rack, nics, simulated, scratch, agent)
    far_ends, arguments, given = _plug_in(nics)
    stream, stream_far = socket.socketpair()
    control, control_far = socket.socketpair()
    given = [*given, stream_far.detach(), control_far.detach()]
    command = [str(rack.qemu), *qemu.machine_arguments(rack.kernel, files, memory, cpus), *arguments, "-serial", f"file:{log}",
               *qemu.agent_arguments(given[-2]), *qemu.monitor_arguments(given[-1])]  # fmt: skip
    try:
        with _words(log).open("wb") as stderr:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, env=_environment(rack), pass_fds=given,
                                       preexec_fn=_end_with(os.getpid()))  # fmt: skip
    finally:
        _close(given)
    return Machine(process, stream, far_ends, Monitor(control), log)


def _log(rack: Rack) -> Path:
    """A serial log of its own in the cache; it stays there after a failure."""
    directory = rack.cache / "logs"
    directory.mkdir(exist_ok=True)
    return directory / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}-{time.monotonic_ns() % 1000:03}.log"


def _words(log: Path) -> Path:
    """Where QEMU's own words go: beside the serial log."""
    return log.with_suffix(".qemu")


def _plug_in(nics: tuple[Nic, ...]) -> tuple[dict[str, wires.Wire], list[str], list[int]]:
    """Wires by name, QEMU's arguments, and the descriptors that QEMU is given."""
    far_ends: dict[str, wires.Wire] = {}
    arguments: list[str] = []
    given: list[int] = []
    for index, (name, nic) in enumerate(zip(qemu.names(nics), nics, strict=True)):
        if nic.queues > 1:
            far_ends[name], theirs = wires.tap(name, nic.queues)
        else:
            far_ends[name], only = wires.datagrams(name)
            theirs = [only]
        arguments += qemu.nic_arguments(index, nic, theirs)
        given += theirs
    return far_ends, arguments, given


def _initrd(rack: Rack, nics: tuple[Nic, ...], simulated: tuple[int, int] | None, scratch: Path, agent: str, where: str = "") -> Path:
    """The initrd of this boot, in a file: drivers of these NICs only, and what guest.sh is told."""
    wanted = (*_ALWAYS, *dict.fromkeys(qemu.MODULE[nic.kind] for nic in nics), *(("ptp_mock", "netdevsim") if simulated else ()))
    modules = initrd.modules(rack.modules, wanted)
    told = {
        "MODULES": " ".join(modules), "NSIM": " ".join(map(str, simulated)) if simulated else "",
        "NICS": " ".join(f"{qemu.address(index)}={name}" for index, name in enumerate(qemu.names(nics))),
        "KERNEL_MODULES": str(rack.modules), "RELEASE": rack.release, "TOOLS": str(rack.root / "tools"), "AGENT": agent, "SHELL_WANTED": where,
    }  # fmt: skip
    files = {"init": (Path(__file__).parent / "guest.sh").read_bytes(), "bin/busybox": rack.busybox.read_bytes()}
    files["guest.sh"] = files["init"]
    files["rack.conf"] = "".join(f"{key}={shlex.quote(value)}\n" for key, value in told.items()).encode()
    files |= {f"modules/{name}": content for name, content in modules.items()}
    place = scratch / "initrd"
    place.write_bytes(initrd.archive(files, ("bin", "dev", "proc", "sys", "host", "memory", "new", "modules")))
    return place


def _environment(rack: Rack) -> dict[str, str]:
    return {**os.environ, "LD_LIBRARY_PATH": rack.libraries}


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _end_with(parent: int):  # type: ignore[no-untyped-def]
    def before_exec() -> None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        if os.getppid() != parent:  # it ended before the line above
            os.kill(os.getpid(), signal.SIGKILL)

    return before_exec
