"""Small policies and frames that several tests use."""

from __future__ import annotations

import ipaddress

from compiler import frames, ir

F = ir.Field
SECOND = 1_000_000_000


def address(text: str) -> int:
    """The ordinal of an address."""
    parsed = ipaddress.ip_address(text)
    return int(parsed) + (ir.V4_BASE if parsed.version == 4 else 0)


def network(text: str) -> tuple[int, int]:
    """The range of ordinals of a prefix."""
    parsed = ipaddress.ip_network(text)
    base = ir.V4_BASE if parsed.version == 4 else 0
    return base + int(parsed[0]), base + int(parsed[-1])


def port(number: int, proto: str = "udp") -> ir.Expr:
    return ir.And((ir.Is(proto), ir.Within(F.DPORT, ((number, number),))))


def program(*rules: ir.Rule, default: str = "drop", sets: tuple[ir.Set, ...] = (), xdp: str = "native") -> ir.Program:
    """One nic wan with the chain wan.in."""
    chain = ir.Chain("wan.in", "wan", "in", None, rules, default)
    return ir.Program(nics=(ir.Nic("wan", "w0", xdp),), sets=sets, chains=(chain,))


def udp(src: str = "192.0.2.2", dst: str = "192.0.2.1", dport: int = 53, sport: int = 40000, **more: int | str) -> bytes:
    return frames.build(ir.PacketSpec("udp", src, dst, sport, dport, tuple(more.items())))


def tcp(src: str = "192.0.2.2", dst: str = "192.0.2.1", dport: int = 22, *flags: str) -> bytes:
    return frames.build(ir.PacketSpec("tcp", src, dst, 40000, dport, tuple((flag, 1) for flag in flags)))
