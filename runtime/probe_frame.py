"""The frame that stands for a protected flow: as small as a packet of its kind can be, with right checksums.

Formats: RFC 791, 8200, 9293, 768, 9260, 792, 4443; checksums RFC 1071, SCTP's CRC32c RFC 9260 appendix A.
"""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

_TCP, _UDP, _SCTP, _ICMP = 6, 17, 132, (1, 58)
_VLAN, _IP4, _IP6 = 0x8100, 0x0800, 0x86DD
_DONT_FRAGMENT = 0x4000
_SOURCE = bytes.fromhex("020000000001")  # locally administered: nobody's
_SHORTEST = 60  # bytes: Ethernet's 64 without the check sequence
_CASTAGNOLI = 0x82F63B78


class Packet(NamedTuple):
    """What is in the frame. number: IPv4's identification or IPv6's flow label, by which it is known again. vlan: 0 for untagged."""

    mac: bytes
    src: IPv4Address | IPv6Address
    dst: IPv4Address | IPv6Address
    proto: int
    sport: int
    dport: int
    icmp: int
    flags: int
    vlan: int
    dscp: int
    ttl: int
    number: int


def frame(packet: Packet) -> bytes:
    """From the destination's MAC address on, padded."""
    tag = struct.pack(">HH", _VLAN, packet.vlan) if packet.vlan else b""
    kind = struct.pack(">H", _IP4 if packet.src.version == 4 else _IP6)
    return (packet.mac + _SOURCE + tag + kind + _network(packet, _transport(packet))).ljust(_SHORTEST, b"\0")


def _network(packet: Packet, body: bytes) -> bytes:
    ends = packet.src.packed + packet.dst.packed
    if packet.src.version == 6:
        return struct.pack(">IHBB", 6 << 28 | packet.dscp << 22 | packet.number, len(body), packet.proto, packet.ttl) + ends + body
    head = struct.pack(">BBHHHBBH", 0x45, packet.dscp << 2, 20 + len(body), packet.number, _DONT_FRAGMENT, packet.ttl, packet.proto, 0)
    return head[:10] + struct.pack(">H", _sum(head + ends)) + ends + body


def _transport(packet: Packet) -> bytes:
    ports = struct.pack(">HH", packet.sport, packet.dport)
    if packet.proto == _TCP:
        return _summed(packet, ports + struct.pack(">IIBBHHH", 1, 0, 5 << 4, packet.flags, 1024, 0, 0), 16)
    if packet.proto == _UDP:
        return _summed(packet, ports + struct.pack(">HH", 8, 0), 6)
    if packet.proto == _SCTP:  # a COOKIE-ACK, which a host without the association ignores
        body = ports + struct.pack(">II", 1, 0) + struct.pack(">BBH", 11, 0, 4)
        return body[:8] + struct.pack("<I", _crc32c(body)) + body[12:]
    if packet.proto in _ICMP:
        body = struct.pack(">HHHH", packet.icmp, 0, packet.number & 0xFFFF, 0)
        return _summed(packet, body, 2) if packet.proto == _ICMP[1] else body[:2] + struct.pack(">H", _sum(body)) + body[4:]
    return bytes(8)


def _summed(packet: Packet, body: bytes, at: int) -> bytes:
    """The body with the checksum that also covers the addresses at `at`; UDP's zero means none and is written as ones."""
    pseudo = packet.src.packed + packet.dst.packed + struct.pack(">II", len(body), packet.proto)
    return body[:at] + struct.pack(">H", _sum(pseudo + body) or 0xFFFF) + body[at + 2 :]


def _sum(data: bytes) -> int:
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _crc32c(data: bytes) -> int:
    value = 0xFFFFFFFF
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = value >> 1 ^ (_CASTAGNOLI if value & 1 else 0)
    return value ^ 0xFFFFFFFF
