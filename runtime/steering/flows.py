"""The first bytes of a packet → its flow, as a NIC's hash and its flow rules see it."""

from __future__ import annotations

import ipaddress
import struct
from typing import NamedTuple

PORTS = {6: "tcp", 17: "udp", 132: "sctp"}
_TAGS = (0x8100, 0x88A8)
_EXTENSIONS = (0, 43, 51, 60, 135, 139, 140)  # of IPv6: NICs read behind them, or not
_FRAGMENT = 44
_MOST_TAGS = 2


class Flow(NamedTuple):
    """kind: tcp4, udp6 …, or ip4, ip6 of what has no ports that a NIC hashes (ICMP, fragments). src, dst: 4 or 16 bytes. proto: IP's number."""

    kind: str
    src: bytes
    dst: bytes
    sport: int | None
    dport: int | None
    proto: int

    def __str__(self) -> str:
        ends = ((self.src, self.sport), (self.dst, self.dport))
        source, target = (_end(ipaddress.ip_address(address), port) for address, port in ends)
        name = PORTS.get(self.proto) or {1: "icmp", 58: "icmp"}.get(self.proto) or f"proto {self.proto}"
        return f"{name} {source} -> {target}"


def parse(head: bytes) -> Flow | None:
    """The flow of a frame; None for what is not IP, is cut short, or has headers that NICs read each in its own way."""
    found = network(head)
    if found is None:
        return None
    ethertype, at = found
    try:
        return _ip4(head, at) if ethertype == 0x0800 else _ip6(head, at)
    except (struct.error, IndexError):
        return None


def network(head: bytes) -> tuple[int, int] | None:
    """EtherType and place of the IP header, behind at most two tags; None where there is none."""
    at = 12
    for _ in range(_MOST_TAGS + 1):
        if at + 2 > len(head):
            return None
        ethertype = int(struct.unpack_from(">H", head, at)[0])
        if ethertype not in _TAGS:
            return (ethertype, at + 2) if ethertype in (0x0800, 0x86DD) else None
        at += 4
    return None


def whole(head: bytes, vlan: int) -> bytes:
    """The frame as if it were no longer than what was copied of it: lengths made to fit, a tag beside the frame put back. For a program to judge."""
    frame = bytearray(head)
    found = network(head)
    if found is not None and found[0] == 0x0800 and len(frame) >= found[1] + 20:
        at, end = found[1], len(frame)
        length = min(int(struct.unpack_from(">H", frame, at + 2)[0]), end - at)
        struct.pack_into(">H", frame, at + 2, length)
        _fit_udp(frame, at + 4 * (frame[at] & 15), frame[at + 9], at + length)
    elif found is not None and found[0] == 0x86DD and len(frame) >= found[1] + 40:
        at, end = found[1], len(frame)
        length = min(int(struct.unpack_from(">H", frame, at + 4)[0]), end - at - 40)
        struct.pack_into(">H", frame, at + 4, length)
        _fit_udp(frame, at + 40, frame[at + 6], at + 40 + length)
    tag = struct.pack(">HH", 0x8100, vlan & 0xFFFF) if vlan >= 0 else b""
    return bytes(frame[:12]) + tag + bytes(frame[12:])


def _fit_udp(frame: bytearray, at: int, proto: int, end: int) -> None:
    if proto == 17 and at + 8 <= end:
        length = int(struct.unpack_from(">H", frame, at + 4)[0])
        struct.pack_into(">H", frame, at + 4, min(length, end - at))


def _ip4(head: bytes, at: int) -> Flow:
    proto, fragment = head[at + 9], struct.unpack_from(">H", head, at + 6)[0] & 0x3FFF
    return _flow(head, "4", head[at + 12 : at + 16], head[at + 16 : at + 20], proto, at + 4 * (head[at] & 15), bool(fragment))


def _ip6(head: bytes, at: int) -> Flow | None:
    proto = head[at + 6]
    if proto in _EXTENSIONS:
        return None
    fragment = proto == _FRAGMENT
    return _flow(head, "6", head[at + 8 : at + 24], head[at + 24 : at + 40], head[at + 40] if fragment else proto, at + 40, fragment)


def _flow(head: bytes, family: str, src: bytes, dst: bytes, proto: int, at: int, fragment: bool) -> Flow:
    if len(dst) != (4 if family == "4" else 16):
        raise IndexError
    if proto not in PORTS or fragment:
        return Flow(f"ip{family}", src, dst, None, None, proto)
    sport, dport = struct.unpack_from(">HH", head, at)
    return Flow(f"{PORTS[proto]}{family}", src, dst, sport, dport, proto)


def _end(address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int | None) -> str:
    if port is None:
        return str(address)
    return f"[{address}]:{port}" if address.version == 6 else f"{address}:{port}"
