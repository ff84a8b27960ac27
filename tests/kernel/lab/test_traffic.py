"""What the generator says it sent is what an XDP program at the other end saw: in number, in length and byte by byte."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from runtime.backends import bpf, ethtool
from runtime.lab import topology, traffic
from runtime.lab.lab import Lab
from runtime.lab.listen import Listener

_FRAME = bytes.fromhex("020000000101020000000102 0800 4500 002e 0000 0000 4011 0000 cb007109 c0000201 14e9 0035 001a 0000") + b"x" * 18
_MAP = 7


class Receiver:
    """Counts frames in wan0's XDP hook, and spoils each one's TTL so that a page that comes back is seen to be written anew."""

    def __init__(self, counts: int, memory: object) -> None:
        self._memory = memory
        self.map = counts

    @property
    def frames(self) -> int:
        return int(struct.unpack("=Q", self._memory[:8])[0])  # type: ignore[index]

    @property
    def spoilt(self) -> int:
        """Frames whose TTL was not 64 when they came."""
        return int(struct.unpack("=Q", self._memory[8:16])[0])  # type: ignore[index]


def _program(action: int) -> bytes:
    insn = traffic._insn
    code = insn(0x61, 2, 1, 4) + insn(0x61, 3, 1, 0)  # r2 = data_end, r3 = data
    code += struct.pack("=BBhi", 0x18, 1 | 2 << 4, 0, _MAP) + bytes(8) + insn(0xB7, 4, immediate=1)  # r1 = the map's value; r4 = 1
    code += insn(0xDB, 1, 4)  # lock *(u64 *)(r1 + 0) += r4
    code += insn(0xBF, 5, 3) + insn(0x07, 5, immediate=23) + insn(0x2D, 5, 2, 5)  # if data + 23 > data_end go to the end
    code += insn(0x71, 6, 3, 22) + insn(0x15, 6, 0, 1, 64)  # r6 = TTL; if it is 64 skip
    code += insn(0xDB, 1, 4, 8)
    code += insn(0xB7, 6, immediate=9) + insn(0x73, 3, 6, 22)  # TTL = 9
    return code + insn(0xB7, 0, immediate=action) + insn(0x95)


@contextmanager
def _receiver(lab: Lab, action: int = 1) -> Iterator[Receiver]:
    with lab.enter(), bpf.Fd(bpf.create_map("array", 4, 16, 1, bpf.F_MMAPABLE, "counts")) as counts:
        memory = bpf.map_array(counts, 16)
        with bpf.Fd(bpf.load_program("xdp", _program(action), {_MAP: counts}, "receiver", bpf.XDP, True)) as program:
            attached = bpf.link_create(program, topology.WAN.ifindex, bpf.XDP, bpf.XDP_FLAGS_DRV)
    with bpf.Fd(attached):
        yield Receiver(counts, memory)
    memory.close()


@pytest.mark.parametrize(("count", "way"), [(1, "packet socket"), (1000, "packet socket"), (1025, "live frames"), (200_000, "live frames")])
def test_each_frame_is_counted_once_and_whole(lab: Lab, count: int, way: str) -> None:
    with _receiver(lab) as receiver:
        sent = lab.send(topology.WAN, _FRAME, count)
        assert (sent.packets, sent.way) == (count, way)
        assert (receiver.frames, receiver.spoilt) == (count, 0)


@pytest.mark.parametrize("length", [14, 15, 17, 23, 60, 61, 64, 511, 1514, 1518])
def test_every_length_arrives(lab: Lab, length: int) -> None:
    frame = (_FRAME + bytes(range(256)) * 6)[:length]
    with _receiver(lab) as receiver:
        lab.send(topology.WAN, frame, 2000)
        assert (receiver.frames, receiver.spoilt) == (2000, 0)


def test_frames_arrive_byte_by_byte(lab: Lab) -> None:
    with lab.enter(), Listener("wan0") as listener:
        lab.send(topology.WAN, _FRAME, 5)
        lab.send(topology.WAN, _FRAME, 1100)
        heard = {frame for _, frame in listener.frames(0.5)}
    assert heard == {_FRAME}


def test_a_device_without_gro_or_xdp_is_served_too(lab: Lab) -> None:
    with lab.enter():
        ethtool.set_features("wan0", {"rx-gro": False})
    sent = lab.send(topology.WAN, _FRAME, 2000)
    assert (sent.packets, sent.way) == (2000, "packet socket")


def test_different_frames_keep_their_order(lab: Lab) -> None:
    frames = [_FRAME[:-2] + struct.pack("!H", n) for n in range(300)]
    with lab.enter(), Listener("wan0") as listener:
        with lab.enter_peer(topology.WAN):
            assert traffic.send_each("wan0p", frames).packets == 300
        assert [frame for _, frame in listener.frames(0.5)] == frames


def test_a_rate_is_not_exceeded(lab: Lab) -> None:
    sent = lab.send(topology.WAN, _FRAME, 200, rate=1000)
    assert sent.packets == 200
    assert sent.seconds >= 0.19


@pytest.mark.parametrize(("frame", "count", "words"), [
    (b"x" * 13, 1, "at least 14 bytes"), (b"x" * 1519, 1, "does not fit the device's MTU of 1500"), (b"x" * 1519, 5000, "does not fit"),
    (_FRAME, 0, "cannot be sent; at least 1"),
])  # fmt: skip
def test_what_cannot_be_sent_is_told(lab: Lab, frame: bytes, count: int, words: str) -> None:
    with pytest.raises(traffic.TrafficError, match=words):
        lab.send(topology.WAN, frame, count)


def test_the_dut_sends_through_its_own_stack(lab: Lab) -> None:
    with lab.enter_peer(topology.WAN), Listener("wan0p") as listener:
        lab.send_from_dut(_FRAME[:26] + bytes([192, 0, 2, 1, 203, 0, 113, 9]) + _FRAME[34:], 3)
        heard = [frame for _, frame in listener.frames(0.5)]
    assert [frame[26:34] for frame in heard] == [bytes([192, 0, 2, 1, 203, 0, 113, 9])] * 3
    with pytest.raises(traffic.TrafficError, match="IPv4 and IPv6 only"):
        lab.send_from_dut(_FRAME[:12] + b"\x08\x06" + _FRAME[14:])
