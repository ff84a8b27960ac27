"""The traffic generator: frames sent from a lab's peer device so that they arrive at the other end, counted.

Fast way: BPF_PROG_TEST_RUN with BPF_F_TEST_XDP_LIVE_FRAMES runs a small program a million times a second; it writes the frame and
redirects it to the device (the kernel recycles pages without cleaning them, so what the receiver changed has to be written anew).
The device takes redirected frames while its other end runs XDP or GRO (`ndo-xmit`). Otherwise, and for captures, a packet socket sends.

Exact: after each burst the generator waits until the receiving end has taken the frames off its ring, by the device's own statistics.
What a full ring refused is sent again: the receiver has seen every packet that Sent counts, or TrafficError says how far it came.
"""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import islice
from types import TracebackType
from typing import Self

from runtime.backends import bpf, link, netdev, netlink
from runtime.backends.netlink import NETLINK_ROUTE, attributes

MAX_FRAME = 3072  # bytes: a page less headroom and skb_shared_info (net/bpf/test_run.c)
MIN_FRAME = 14
_BATCH = 64  # frames the kernel moves at once; a veth ring holds 256 (VETH_RING_SIZE)
_BURST = 1 << 16  # frames between two looks at the statistics when no rate is asked for
_FEW, _SLOW = 1024, 50_000  # packets; packets a second: up to here the packet socket starts faster and keeps time better
_HEADERS = 18  # bytes of a frame over the MTU: Ethernet and one tag
_SETTLE_SECONDS = 5.0
_RTM_GETLINK, _IFLA_STATS64 = 18, 23
_XDP_DROP, _BPF_REDIRECT = 1, 23  # enum xdp_action, enum bpf_func_id


class TrafficError(Exception):
    """Frames that cannot be sent, or did not all arrive. The text says how many did."""


@dataclass(frozen=True, slots=True)
class Sent:
    """packets: frames that left and were taken at the other end; seconds: how long that was; way: live frames or packet socket."""

    packets: int
    seconds: float
    way: str

    @property
    def rate(self) -> float:
        """Packets a second."""
        return self.packets / self.seconds if self.seconds else 0.0


def send(device: str, frame: bytes, count: int = 1, rate: float = 0) -> Sent:
    """Send one frame `count` times from `device` of this namespace, at `rate` packets a second (0: as fast as it goes).

    Raises TrafficError, OSError.
    """
    if count < 1:
        raise TrafficError(f"{count} packets cannot be sent; at least 1")
    few = count <= _FEW or 0 < rate <= _SLOW
    if few or "ndo-xmit" not in netdev.xdp_features(socket.if_nametoindex(device)):
        return send_each(device, (frame for _ in range(count)), rate)
    _check(frame, link.get(device).mtu)
    began = time.monotonic()
    left, burst = count, min(_BURST, max(1, round(rate / 10))) if rate else _BURST
    with Meter(device) as meter, _loaded(frame, meter.ifindex) as program:
        context = struct.pack("=6I", 0, len(frame), 0, meter.ifindex, 0, 0)  # struct xdp_md
        while left:
            frames = min(left, burst)
            bpf.test_run(program, frame, context, frames, bpf.TEST_XDP_LIVE_FRAMES, _BATCH)
            left -= frames - meter.settle(frames)
            _pace(began, count - left, rate)
    return Sent(count, time.monotonic() - began, "live frames")


def send_each(device: str, frames: Iterable[bytes], rate: float = 0) -> Sent:
    """Send different frames in order through a packet socket. Raises TrafficError, OSError."""
    began = time.monotonic()
    mtu, sent = link.get(device).mtu, 0
    batch = min(_BATCH, max(1, round(rate / 1000))) if rate else _BATCH
    with Meter(device) as meter, socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0) as packets:
        packets.bind((device, 0))
        todo = iter(frames)
        while part := list(islice(todo, batch)):
            for frame in part:
                _check(frame, mtu)
                packets.send(frame)
            sent += len(part)
            if refused := meter.settle(len(part)):
                raise TrafficError(f"of {sent} frames from {device}, {refused} were dropped on the way: the other end is too slow")
            _pace(began, sent, rate)
    return Sent(sent, time.monotonic() - began, "packet socket")


def _loaded(frame: bytes, ifindex: int) -> bpf.Fd:
    return bpf.Fd(bpf.load_program("xdp", sender_program(frame, ifindex), {}, "netc_lab_send"))


def sender_program(frame: bytes, ifindex: int) -> bytes:
    """XDP bytecode: write `frame` over the packet, then redirect it to `ifindex`. A packet shorter than the frame is dropped."""
    padded = frame + bytes(-len(frame) % 4)
    words = len(frame) // 4
    code = _insn(0x61, 2, 1, 4) + _insn(0x61, 1, 1, 0)  # r2 = ctx->data_end; r1 = ctx->data
    code += _insn(0xBF, 3, 1) + _insn(0x07, 3, immediate=len(frame))  # r3 = r1 + length
    stores = b"".join(_insn(0x62, 1, 0, 4 * i, struct.unpack_from("=i", padded, 4 * i)[0]) for i in range(words))
    stores += b"".join(_insn(0x72, 1, 0, i, frame[i]) for i in range(4 * words, len(frame)))
    code += _insn(0x2D, 3, 2, len(stores) // 8 + 4)  # if r3 > r2 go to the drop
    code += stores
    code += _insn(0xB7, 1, immediate=ifindex) + _insn(0xB7, 2) + _insn(0x85, immediate=_BPF_REDIRECT) + _insn(0x95)
    return code + _insn(0xB7, 0, immediate=_XDP_DROP) + _insn(0x95)


class Meter:
    """Follows the frames that leave `device` of this namespace until its other end has taken them. A context manager."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.ifindex = socket.if_nametoindex(device)
        self._kernel = netlink.Socket(NETLINK_ROUTE)
        self._taken, self._refused = self._read()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self._kernel.__exit__(kind, value, trace)

    def settle(self, frames: int) -> int:
        """Wait until each of `frames` more was taken or refused by a full ring; how many were refused. Raises TrafficError."""
        deadline = time.monotonic() + _SETTLE_SECONDS
        while True:
            taken, refused = self._read()
            done = taken - self._taken + refused - self._refused
            if done >= frames:
                lost, self._taken, self._refused = refused - self._refused, taken, refused
                return lost
            if time.monotonic() > deadline:
                raise TrafficError(f"{frames} frames were sent from {self.device}, only {done} reached the other end")
            time.sleep(0.0002)

    def _read(self) -> tuple[int, int]:
        payload = struct.pack("=BBHiII", 0, 0, 0, self.ifindex, 0, 0)
        answer = self._kernel.request(_RTM_GETLINK, payload)[0]
        stats = struct.unpack_from("=8Q", attributes(answer[16:])[_IFLA_STATS64])  # struct rtnl_link_stats64
        return stats[1], stats[7]  # tx_packets: what the other end took off its ring; tx_dropped: what did not fit


def _check(frame: bytes, mtu: int) -> None:
    if len(frame) < MIN_FRAME:
        raise TrafficError(f"a frame has at least {MIN_FRAME} bytes, this one {len(frame)}")
    if len(frame) > min(mtu + _HEADERS, MAX_FRAME):
        raise TrafficError(f"a frame of {len(frame)} bytes does not fit the device's MTU of {mtu}")


def _pace(began: float, sent: int, rate: float) -> None:
    if rate and (ahead := began + sent / rate - time.monotonic()) > 0:
        time.sleep(ahead)


def _insn(opcode: int, dst: int = 0, src: int = 0, offset: int = 0, immediate: int = 0) -> bytes:
    """One instruction: struct bpf_insn, include/uapi/linux/bpf.h."""
    return struct.pack("=BBhi", opcode, dst | src << 4, offset, immediate)


