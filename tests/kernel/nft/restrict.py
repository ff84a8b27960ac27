"""Random programs made of what nft can judge: the generators' programs with everything else replaced."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from random import Random

from compiler import ir
from compiler import ranges as rng
from compiler.packet import parse
from tests.differential import policies

F = ir.Field
TAGS = (0x8100, 0x88A8)
EXTENSIONS = (0, 43, 44, 51, 60, 135, 139, 140)


def ingress_program(seed: int) -> ir.Program:
    """A program for netdev ingress: all that is not dynamic, not malformed and not a second tag; some with a stateful tail."""
    from tests.kernel.nft.nft_rig import GRO_OFF

    program = policies.random_program(Random(seed))
    chain = program.chains[0]
    static = tuple(s for s in program.sets if s.size is None)
    rules = tuple(replace(r, when=_plain(r.when, static), limit=None, effects=()) for r in chain.rules)
    stateful = any(_asks(r.when) for r in rules)
    if stateful:  # behind the first stateful rule a length would be refused
        rules = tuple(replace(r, when=without_length(r.when)) for r in rules)
    nic = ir.Nic("wan", "wan0", "none")
    return replace(program, nics=(nic,), sets=static, chains=(replace(chain, rules=rules),), settings=(GRO_OFF,))


def _asks(when: ir.Expr) -> bool:
    return isinstance(when, ir.Connection) or any(map(_asks, _items(when)))


def _items(when: ir.Expr) -> tuple[ir.Expr, ...]:
    return (when.item,) if isinstance(when, ir.Not) else when.items if isinstance(when, ir.And | ir.Or) else ()


def _map(when: ir.Expr, change: object) -> ir.Expr:
    if isinstance(when, ir.Not):
        return ir.Not(_map(when.item, change))
    if isinstance(when, ir.And | ir.Or):
        return type(when)(tuple(_map(item, change) for item in when.items))
    return change(when)  # type: ignore[operator,no-any-return]


def _plain(when: ir.Expr, static: tuple[ir.Set, ...]) -> ir.Expr:
    def leaf(part: ir.Expr) -> ir.Expr:
        match part:
            case ir.Is("malformed"):
                return ir.Is("l2")
            case ir.Within(F.VLAN_INNER, ranges):
                return ir.Within(F.VLAN, ranges)
            case ir.Within(F.ETHERTYPE, ranges):
                return ir.Within(F.ETHERTYPE, rng.normalize([*rng.intersect(ranges, ((1536, 0xFFFF),)), (0, 1535)]))
            case ir.Member(field, name) if name not in {s.name for s in static}:
                return ir.Within(field, ((ir.V4_BASE, ir.V4_LAST),))
        return part

    return _map(when, leaf)


def without_length(when: ir.Expr) -> ir.Expr:
    return _map(when, lambda p: ir.Within(F.TTL, ((0, 64),)) if isinstance(p, ir.Within) and p.field is F.LENGTH else p)


def tags(frame: bytes) -> int:
    """How many VLAN tags stand one behind the other."""
    count, at = 0, 12
    while at + 2 <= len(frame) and int.from_bytes(frame[at : at + 2], "big") in TAGS:
        count, at = count + 1, at + 4
    return count


def stack_differs(frame: bytes) -> bool:
    """What nft_layout says is judged otherwise (closed, or as the stack sees it): broken, nested or AH/mobility/HIP/shim6 extension headers of IPv6; tags cut short."""
    packet = parse(frame)
    if tags(frame) == 1 and len(frame) < 20:  # skb_vlan_untag wants the type behind the tag and two octets more
        return True
    if "ip6" not in packet.kinds:
        return False
    at = 14 + 4 * tags(frame)
    header = frame[at : at + 40]
    if len(header) < 40:
        return False
    extended = header[6] in EXTENSIONS
    walked = _walk(frame[at:])
    nested = any(one == 44 and following in EXTENSIONS for one, following in pairwise(walked))
    return extended and (nested or "malformed" in packet.kinds or any(b in (51, 135, 139, 140) for b in walked))


def _walk(packet: bytes) -> list[int]:
    """The next-header values of the extension chain, as far as it can be read."""
    found, at = [packet[6]], 40
    while found[-1] in EXTENSIONS and at + 2 <= len(packet) and len(found) < 12:
        size = 8 if found[-1] == 44 else (packet[at + 1] + 2) * 4 if found[-1] == 51 else (packet[at + 1] + 1) * 8
        found.append(packet[at])
        at += size
    return found
