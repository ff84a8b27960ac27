"""The far end of a port: what sends frames at the device under test, and sees what it sends."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from hwtests.rack.errors import RackError
from hwtests.rack.machine import Machine

SETTLE_SECONDS = 0.1  # frames that are still on their way when the sender is done


@dataclass(frozen=True, slots=True)
class Frame:
    """when: seconds of the receiver's clock; length: bytes on the wire without FCS; data: what was kept; way: which socket took it, where they share."""

    when: float
    length: int
    data: bytes
    way: int = 0

    @property
    def tags(self) -> tuple[int, ...]:
        """VLAN ids, outer first."""
        return tuple(int.from_bytes(self.data[at + 2 : at + 4]) & 0xFFF for at in range(12, self._layer3 - 2, 4))

    @property
    def proto(self) -> int:
        """The IPv4 protocol; -1 for what is not IPv4."""
        at = self._layer3
        return self.data[at + 9] if self.data[at - 2 : at] == b"\x08\x00" and len(self.data) >= at + 24 else -1

    @property
    def dport(self) -> int:
        """The destination port of TCP or UDP over IPv4 without options; -1 for anything else."""
        return int.from_bytes(self.data[self._layer3 + 22 : self._layer3 + 24]) if self.proto in (6, 17) else -1

    @property
    def icmp_type(self) -> int:
        return self.data[self._layer3 + 20] if self.proto == 1 else -1

    @property
    def reset(self) -> bool:
        """A TCP segment with RST: what a stack answers to a closed port."""
        return self.proto == 6 and bool(self.data[self._layer3 + 33] & 4)

    @property
    def _layer3(self) -> int:
        at = 14
        while self.data[at - 2 : at] in (b"\x81\x00", b"\x88\xa8"):
            at += 4
        return at


@dataclass
class Heard:
    """What a listener received; filled when its block ends. lost: frames that the listening machine had no room for."""

    frames: list[Frame] = field(default_factory=list)
    lost: int = 0
    seen: Callable[[], int] = lambda: 0

    def wait(self, frames: int, seconds: float = 10.0) -> int:
        """Until that many were seen, or the time is up; how many were."""
        until = time.monotonic() + seconds
        while (seen := self.seen()) < frames and time.monotonic() < until:
            time.sleep(0.05)
        return seen


class Wire(Protocol):
    """mac: what the far end sends from."""

    mac: str

    def send(self, frames: Sequence[bytes], count: int = 1, rate: float = 0) -> float:
        """Send all of them `count` times at `rate` frames a second (0: as fast as it goes); the seconds that took."""

    def listening(self, snap: int = 0) -> Any:
        """A context manager: frames that arrive at the far end during the block, as Heard."""


class AgentWire:
    """A far end that is a network device of a machine with an agent."""

    def __init__(self, receiver: Machine, device: str, mac: str, sender: Machine | None = None, send_device: str = "") -> None:
        self.mac = mac
        self._receiver, self._device = receiver, device
        self._sender, self._send_device = sender or receiver, send_device or device

    def send(self, frames: Sequence[bytes], count: int = 1, rate: float = 0) -> float:
        return send(self._sender, self._send_device, frames, count, rate)

    @contextmanager
    def listening(self, snap: int = 0) -> Iterator[Heard]:
        with listening(self._receiver, self._device, snap) as heard:
            yield heard


def send(machine: Machine, device: str, frames: Sequence[bytes], count: int = 1, rate: float = 0) -> float:
    """Send frames from a device of a machine by a packet socket; the seconds it took. Raises RackError."""
    seconds = len(frames) * count / rate if rate else len(frames) * count / 5000
    packed = [base64.b64encode(frame).decode() for frame in frames]
    answer = machine.ask("send", device, timeout=30 + 3 * seconds, frames=packed, count=count, rate=rate)
    if answer["sent"] != len(frames) * count:
        raise RackError(f"{machine.name}: {answer['sent']} of {len(frames) * count} frames were sent")
    return float(answer["seconds"])


@contextmanager
def listening(machine: Machine, device: str, snap: int = 0, by: str = "", ways: int = 1) -> Iterator[Heard]:
    """Frames that arrive at a device of a machine. by: `cpu` or `queue`: Frame.way says which of `ways` took the frame."""
    heard = Heard()
    handle = machine.ask("listen", device, snap=snap, by=by, ways=ways)["handle"]
    heard.seen = lambda: int(machine.ask("heard", handle)["seen"])
    ended = False
    try:
        yield heard
        time.sleep(SETTLE_SECONDS)
        answer, ended = machine.ask("stop", handle, timeout=60), True
        heard.frames = [Frame(when, length, base64.b64decode(data), way) for when, length, data, way in answer["frames"]]
        heard.lost, heard.seen = answer["lost"], lambda: int(answer["seen"])
    finally:
        if not ended:
            machine.ask("stop", handle, timeout=60)
