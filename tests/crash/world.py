"""A host for the sweep: two nics, sockets behind them that hear what gets through, a sender that never rests, and netc's own process.

What the guard sends is dropped by every policy here: one packet heard from it while a policy is in force says that the nic was bare.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from compiler import frames, ir
from runtime.lab import netns
from tests.crash import policies
from tests.kernel.apply import hosts
from tests.kernel.apply.hosts import ROOT, Host, udp

_WIRES = (("wan0", "192.0.2.1"), ("lan0", "192.0.2.129"))
_SETUP = """
ip link add lan0 type veth peer name lan0p netns {peer}
ip -n {peer} link set lan0p up
ip addr add 192.0.2.1/25 dev wan0; ip addr add 192.0.2.129/25 dev lan0; ip link set lan0 up; ip link set lo up
ip route replace default dev wan0
nsenter --net=/run/netns/{peer} ethtool -L wan0p rx 1 tx 1
ip neigh replace 192.0.2.2 lladdr 02:00:00:00:00:02 dev wan0
sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.wan0.rp_filter=0 net.ipv4.conf.lan0.rp_filter=0
"""
_REST = 0.002  # seconds between two frames of the guard: more would take the processor from what is tested
_HANG = 30.0  # seconds in which a command has to end, under strace and on a busy machine


@dataclass(frozen=True, slots=True)
class Ended:
    """status: exit status, or the negative number of the signal. said: standard error. seconds: from the start to the end."""

    status: int
    said: str
    seconds: float


class Prelude:
    """The process that forks netc (tests/crash/prelude.py)."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._fifo, self._out, self._err = (host.directory / name for name in ("fifo", "out", "err"))
        os.mkfifo(self._fifo)
        command = [sys.executable, "-m", "tests.crash.prelude"]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env={**os.environ, "PYTHONHASHSEED": "0"})

    def run(self, words: Sequence[str], trace: Callable[[int], contextlib.AbstractContextManager[None]] | None = None) -> Ended:
        """One netc command with these words; `trace` attaches to the process of that number before it begins."""
        order = {"arguments": list(words), "netns": self._host.netns, "fifo": str(self._fifo), "output": str(self._out), "error": str(self._err)}
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        with (trace or _untraced)(self._answer()):
            began = time.monotonic()
            os.close(os.open(self._fifo, os.O_WRONLY))
            waited = self._answer()
        return Ended(os.waitstatus_to_exitcode(waited), self._err.read_text(errors="replace"), time.monotonic() - began)

    def _answer(self) -> int:
        assert self._process.stdout is not None
        alarm = threading.Timer(_HANG, self._process.kill)
        alarm.start()
        try:
            return int(self._process.stdout.readline())
        finally:
            alarm.cancel()

    def close(self) -> None:
        with self._process:
            assert self._process.stdin is not None
            self._process.stdin.close()


@contextlib.contextmanager
def _untraced(_number: int) -> Iterator[None]:
    yield


class Guard(threading.Thread):
    """Sends what no policy lets through, from one end of the wire, for as long as it lives; it rests while `resting` is held."""

    def __init__(self, host: Host, frame: bytes) -> None:
        super().__init__(daemon=True)
        self._host, self._frame = host, frame
        self._ended = threading.Event()
        self.resting = threading.Lock()
        self.sent = 0

    def run(self) -> None:
        with netns.enter(self._host.peer), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind(("wan0p", 0))
            while not self._ended.wait(_REST):
                with self.resting, contextlib.suppress(OSError):  # the device's queue is full, or it is set up anew
                    wire.send(self._frame)
                    self.sent += 1

    def end(self) -> None:
        self._ended.set()
        self.join()


@dataclass
class World:
    """host: where netc works. heard: sockets by (device, port). state: the state directory that is worked with."""

    host: Host
    prelude: Prelude
    guard: Guard
    macs: dict[str, str]
    heard: dict[tuple[str, int], socket.socket] = field(default_factory=dict)

    def state(self) -> Path:
        """The directory of whoever owns what is installed."""
        try:
            return Path(os.readlink(self.host.directory / "bpf/owner").partition(" ")[2])
        except OSError:
            return self.host.directory / "state"

    def words(self, command: str) -> list[str]:
        """A command line: {name} is a bundle's file, {name.netc} its policy, {name@file.netc} the policy in another file; --state-dir is the test's unless it is given."""
        made = [self._file(word[1:-1]) if word[0] == "{" else word for word in command.split()]
        given = [] if "--state-dir" in made else ["--state-dir", str(self.host.directory / "state")]
        made = [str(self.host.directory / word[1:]) if word.startswith("@") else word for word in made]
        return [*made, *given, "--bpffs", str(self.host.directory / "bpf")]

    def _file(self, name: str) -> str:
        text, _, file = name.rpartition("@")
        path = self.host.directory / (file if file.endswith(".netc") else f"{file}.bundle")
        if text or not path.exists():
            path.write_bytes(policies.TEXTS[text or path.stem].encode() if path.suffix == ".netc" else policies.bundle(name))
        return str(path)

    def netc(self, command: str) -> Ended:
        """A command that has to work."""
        ended = self.prelude.run(self.words(command))
        assert ended.status == 0, f"netc {command}: exit {ended.status}\n{ended.said}"
        return ended

    def through(self) -> int:
        """How many of the guard's packets got through since this was asked last."""
        return drained(self.heard["wan0", policies.CLOSED])

    def delivered(self, count: int) -> dict[str, int]:
        """Of so many packets to each open port on each nic, how many arrive."""
        for device, _ in _WIRES:
            for port in policies.OPEN:
                drained(self.heard[device, port])
        for device, address in _WIRES:
            self._send(device, address, count)
        return {f"{device} {port}": drained(self.heard[device, port]) for device, _ in _WIRES for port in policies.OPEN}

    def _send(self, device: str, address: str, count: int) -> None:
        with netns.enter(self.host.peer), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
            wire.bind((f"{device}p", 0))
            for port in policies.OPEN:
                frame = frames.build(ir.PacketSpec("udp", "203.0.113.9", address, 5353, port), dst_mac=self.macs[device])
                for _ in range(count):
                    wire.send(frame)

    def leave(self, count: int) -> None:
        """So many packets to each classified port leave by wan0."""
        with netns.enter(self.host.netns), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as out:
            for port in policies.CLASSES:
                for _ in range(count):
                    out.sendto(b"x", ("192.0.2.2", port))


def drained(heard: socket.socket) -> int:
    """How many datagrams wait at a socket; none is left."""
    count = 0
    with contextlib.suppress(BlockingIOError):
        while heard.recv(2048):
            count += 1
    return count


@contextlib.contextmanager
def made(make_netns: Callable[[], str], directory: Path) -> Iterator[World]:
    """A world of one test. What it made is gone afterwards."""
    with hosts.host(make_netns, directory) as host, contextlib.ExitStack() as opened:
        host.run("sh", "-ec", _SETUP.format(peer=host.peer))
        links = json.loads(host.run("ip", "-j", "link"))
        macs = {link["ifname"]: link["address"] for link in links}
        prelude = opened.enter_context(contextlib.closing(Prelude(host)))
        guard = Guard(host, frames.build(udp(policies.CLOSED), dst_mac=macs["wan0"]))
        world = World(host, prelude, guard, macs)
        with netns.enter(host.netns):
            for device, address in _WIRES:
                for port in (policies.CLOSED, *policies.OPEN):
                    world.heard[device, port] = opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
                    world.heard[device, port].bind((address, port))
                    world.heard[device, port].setblocking(False)
        guard.start()
        opened.callback(guard.end)
        yield world
        for words in ("rollback", f"remove --state-dir {world.state()}"):  # a trial has a watchdog that waits for its end
            prelude.run(world.words(words))
