"""The far end of an emulated NIC: whole frames, nothing lost in silence, and what the kernel took out of a frame put back."""

from __future__ import annotations

import socket
import struct

import pytest
from scapy.layers.inet import IP, TCP, UDP
from scapy.layers.inet6 import IPv6
from scapy.layers.l2 import Dot1Q, Ether
from scapy.packet import Packet

from hwtests.virtual import wires
from hwtests.virtual.errors import RackError

FRAME = bytes(range(14)) + b"x" * 100


def test_frames_pass_whole_and_short_ones_are_padded() -> None:
    wire, given = wires.datagrams("igb0")
    nic = socket.socket(fileno=given)
    wire.send(FRAME)
    wire.send(FRAME[:20])
    assert nic.recv(2048) == FRAME
    assert nic.recv(2048) == FRAME[:20] + bytes(40)
    nic.send(FRAME)
    nic.send(FRAME * 80)
    assert wire.receive() == FRAME
    assert wire.drain() == 1
    assert wire.receive(0.0) is None
    nic.close()
    wire.close()


def test_a_nic_that_takes_nothing_and_one_that_is_gone_are_told() -> None:
    wire, given = wires.datagrams("igb0")
    with pytest.raises(RackError, match=r"igb0 has taken no frame for 0\.05 s"):
        for _ in range(200_000):
            wire.send(FRAME * 10, timeout=0.05)
    socket.socket(fileno=given).close()
    with pytest.raises(RackError, match="igb0"):
        wire.send(FRAME)
    wire.close()


@pytest.mark.parametrize("packet", [
    IP(src="192.0.2.1", dst="198.51.100.2") / TCP(sport=1, dport=2) / b"odd", IP(src="192.0.2.1", dst="198.51.100.2") / UDP(sport=1, dport=2) / b"even",
    IPv6(src="2001:db8::1", dst="2001:db8::2") / UDP(sport=53, dport=2) / b"six",
], ids=["tcp4", "udp4", "udp6"])  # fmt: skip
def test_a_checksum_left_to_the_nic_is_completed(packet: Packet) -> None:
    """What a driver leaves in the field is the sum of the pseudo header (Documentation/networking/checksum-offloads.rst)."""
    right = bytes(Ether() / packet)
    start = 14 + (20 if IP in packet else 40)
    offset = 16 if TCP in packet else 6
    addresses = right[26:34] if IP in packet else right[22:54]
    words = struct.pack("!II", 6 if TCP in packet else 17, len(right) - start) + addresses
    total = sum(struct.unpack(f"!{len(words) // 2}H", words))
    partial = (total & 0xFFFF) + (total >> 16)
    left = right[: start + offset] + struct.pack("!H", partial) + right[start + offset + 2 :]
    assert left != right
    assert wires._with_checksum(struct.pack("=BBHHHH", 1, 0, 0, 0, start, offset) + left) == right
    assert wires._with_checksum(bytes(10) + left) == left


def test_a_tag_that_the_kernel_took_out_is_put_back() -> None:
    tagged = bytes(Ether() / Dot1Q(vlan=7, prio=3) / IP() / UDP())
    without = tagged[:12] + tagged[16:]
    auxdata = struct.pack("=IIIHHHH", 0x10 | 0x40, len(without), len(without), 0, 0, 3 << 13 | 7, 0x8100)
    assert wires._with_tag(without, [(263, 8, auxdata)]) == tagged
    assert wires._with_tag(without, [(263, 8, bytes(20))]) == without
