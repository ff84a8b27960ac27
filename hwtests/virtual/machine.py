"""One virtual machine of the rack: `with booted(...) as machine:` gives a byte stream to the agent in it and a wire for each of its NICs.

It ends with the block, with the thread that booted it (PR_SET_PDEATHSIG), and when the stream to its agent is closed. A panic, an oops or a hang is a RackError
with the last lines of the serial log.
"""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from hwtests.virtual import initrd, qemu, wires
from hwtests.virtual.errors import RackError
from hwtests.virtual.fetch import Rack, fetched
from hwtests.virtual.monitor import Monitor
from hwtests.virtual.qemu import Nic

PAIRS = (Nic("igb"), Nic("igb"), Nic("virtio", 4), Nic("virtio", 4), Nic("vmxnet3"), Nic("vmxnet3"), Nic("e1000e"), Nic("e1000e"))
SIMULATED = (2, 4)  # ports and queues of netdevsim: nsim0, nsim1
AGENT = Path(__file__).parents[1] / "rack/agent.py"
BOOT = 300.0  # seconds until the agent answers: 8 on a quiet machine, but a loaded one emulates ten times slower
_FATAL = re.compile(r"Kernel panic|Oops:|BUG:|soft lockup|hung_task")
_ENDING = 20.0  # seconds for a guest to power off before it is killed
_PING, _PING_ID = 20.0, -1  # seconds; no request of `ask` has this id
_ALWAYS = ("virtio_pci", "virtio_console", "9pnet_virtio", "9p", "overlay")


class Machine:
    """A booted machine. stream: a socket to its agent. wires: by the NIC's name in the guest. log: the serial console's file."""

    def __init__(self, process: subprocess.Popen[bytes], stream: socket.socket, far_ends: dict[str, wires.Wire], monitor: Monitor, log: Path) -> None:
        self.stream = stream
        self.wires = far_ends
        self.log = log
        self.process = process
        self._monitor = monitor
        self._heard = b""

    def check(self) -> None:
        """Raises RackError, with the serial log's last lines, when the machine has ended."""
        if self.process.poll() is not None:
            raise RackError(f"the machine has ended (QEMU's status {self.process.returncode})\n{self.last_lines()}")

    def last_lines(self, count: int = 25) -> str:
        """The serial log from a panic or oops on, else its end; and where the whole is."""
        lines = "".join(path.read_text(errors="replace") for path in (self.log, _words(self.log)) if path.is_file()).splitlines()
        first = next((number for number, line in enumerate(lines) if _FATAL.search(line)), max(0, len(lines) - count))
        return "\n".join([*(f"  | {line}" for line in lines[first : first + count]), f"  (serial log: {self.log})"])

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
        self._say(request)
        end = time.monotonic() + timeout
        silent = time.monotonic() + _PING
        while time.monotonic() < end:
            if answer := self._answer(request["id"]):
                return answer
            if time.monotonic() > silent:  # or the agent takes this process for dead
                self._say({"id": _PING_ID, "ping": True})
                silent = time.monotonic() + _PING
        self.check()
        raise RackError(f"the guest has not answered within {timeout:g} s\n{self.last_lines()}")

    def _say(self, request: dict[str, object]) -> None:
        with suppress(OSError):  # the answer that does not come says more
            self.stream.sendall(json.dumps(request).encode() + b"\n")

    def _answer(self, number: object) -> dict[str, str] | None:
        """The answer with this id, or None when it was not among what came within a second."""
        while b"\n" in self._heard:
            line, _, self._heard = self._heard.partition(b"\n")
            if (answer := json.loads(line))["id"] == number:
                return dict(answer)
        if select.select([self.stream], [], [], 1.0)[0]:
            self._heard += self._read()
        else:
            self.check()
        return None

    def _read(self) -> bytes:
        data = b""
        with suppress(ConnectionResetError):
            data = self.stream.recv(1 << 20)
        if not data:
            self._wait(5.0)
            self.check()
            raise RackError(f"the guest's agent has ended\n{self.last_lines()}")
        return data

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
    machine = _start(rack, nics, memory, cpus, simulated, log or _log(rack), f"{sys.executable} -I -S {agent}")
    try:
        machine.ask({"id": 0, "ping": True}, patience)
        yield machine
    finally:
        machine.end()
    if not log:  # nothing happened that anyone will look for
        machine.log.unlink(missing_ok=True)
        _words(machine.log).unlink(missing_ok=True)


def shell(nics: tuple[Nic, ...], rack: Rack, where: Path, memory: int = 1536, cpus: int = 4) -> int:
    """A shell on the machine's console, on this terminal. Returns QEMU's exit status."""
    far_ends, arguments, given = _plug_in(nics)
    first = _initrd(rack, nics, SIMULATED, agent="", where=str(where))
    command = [str(rack.qemu), *qemu.machine_arguments(rack.kernel, first, memory, cpus), *arguments, "-serial", "stdio"]
    try:
        return subprocess.run(command, check=False, env=_environment(rack), pass_fds=[*given, first]).returncode
    finally:
        _close([*given, first])
        for wire in far_ends.values():
            wire.close()


def _start(rack: Rack, nics: tuple[Nic, ...], memory: int, cpus: int, simulated: tuple[int, int] | None, log: Path, agent: str) -> Machine:
    far_ends, arguments, given = _plug_in(nics)
    stream, stream_far = socket.socketpair()
    control, control_far = socket.socketpair()
    first = _initrd(rack, nics, simulated, agent)
    given += [stream_far.detach(), control_far.detach(), first]
    command = [str(rack.qemu), *qemu.machine_arguments(rack.kernel, first, memory, cpus), *arguments, "-serial", f"file:{log}",
               *qemu.agent_arguments(given[-3]), *qemu.monitor_arguments(given[-2])]  # fmt: skip
    try:
        with _words(log).open("wb") as stderr:
            process = subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *command], stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr,
                                       env=_environment(rack), pass_fds=given)  # fmt: skip
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


def _initrd(rack: Rack, nics: tuple[Nic, ...], simulated: tuple[int, int] | None, agent: str, where: str = "") -> int:
    """The initrd of this boot, a file in memory: drivers of these NICs only, and what guest.sh is told. The caller closes it."""
    wanted = (*_ALWAYS, *dict.fromkeys(qemu.MODULE[nic.kind] for nic in nics), *(("ptp_mock", "netdevsim") if simulated else ()))
    modules = initrd.modules(rack.modules, wanted)
    told = {
        "MODULES": " ".join(modules), "NSIM": " ".join(map(str, simulated)) if simulated else "",
        "NICS": " ".join(f"{qemu.address(index)}={name}" for index, name in enumerate(qemu.names(nics))),
        "KERNEL_MODULES": str(rack.modules), "RELEASE": rack.release, "TOOLS": str(rack.root / "tools"), "AGENT": agent, "SHELL_WANTED": where,
    }  # fmt: skip
    script = (Path(__file__).parent / "guest.sh").read_bytes()
    files = {"init": script, "guest.sh": script, "bin/busybox": rack.busybox.read_bytes()}
    files["rack.conf"] = "".join(f"{key}={shlex.quote(value)}\n" for key, value in told.items()).encode()
    files |= {f"modules/{name}": content for name, content in modules.items()}
    descriptor = os.memfd_create("initrd")
    with os.fdopen(os.dup(descriptor), "wb") as file:
        file.write(initrd.archive(files, ("bin", "dev", "proc", "sys", "host", "memory", "new", "modules")))
    return descriptor


def _environment(rack: Rack) -> dict[str, str]:
    return {**os.environ, "LD_LIBRARY_PATH": rack.libraries}


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
