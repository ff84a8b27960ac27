"""Finds conditions that no packet can meet: address families, transports and value ranges that exclude each other.

It errs on the side of "some packet may match"; exact questions are `space.py`'s. A condition is looked at as the set of (family,
transport) pairs that it leaves possible, and, inside one `and`, as the intersection of the ranges of each field.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from itertools import product

from compiler import ir
from compiler.ir import V4_BASE, Field
from compiler.ranges import intersect

Pairs = frozenset[tuple[str, str]]
_TRANSPORTS = ("tcp", "udp", "sctp", "icmp4", "icmp6", "other")
_ALL: Pairs = frozenset(
    (family, transport)
    for family, transport in product(("ip4", "ip6", "neither"), _TRANSPORTS)
    if (family, transport) not in (("ip4", "icmp6"), ("ip6", "icmp4")) and (family != "neither" or transport == "other")
)
_NEEDS = {
    Field.SPORT: ("tcp", "udp", "sctp"), Field.DPORT: ("tcp", "udp", "sctp"), Field.TCP_FLAGS: ("tcp",),
    Field.ICMP_TYPE: ("icmp4", "icmp6"), Field.ICMP_CODE: ("icmp4", "icmp6"),
}  # fmt: skip
_IP_ONLY = (Field.SRC, Field.DST, Field.PROTO, Field.DSCP, Field.TTL, Field.LENGTH)


def never_matches(expr: ir.Expr, sets: Mapping[str, ir.Set]) -> str:
    """Why no packet can match `expr`, in words; "" when one may."""
    if not _possible(expr, sets):
        return "its parts need different protocols or address families"
    return _empty_field(expr)


def _possible(expr: ir.Expr, sets: Mapping[str, ir.Set]) -> Pairs:
    match expr:
        case ir.And(items):
            return reduce(frozenset.intersection, (_possible(item, sets) for item in items), _ALL)
        case ir.Or(items):
            return reduce(frozenset.union, (_possible(item, sets) for item in items), frozenset())
        case ir.Is(kind):
            return _of_kind(kind)
        case ir.Not(ir.Is(kind)) if kind in (*_TRANSPORTS, "ip4", "ip6"):
            return _ALL - _of_kind(kind)
        case ir.Not(item):
            return _present(item)
        case ir.Within(field, ranges):
            return _present(expr) & _families(field, ranges)
        case ir.Member(field, name):
            found = sets.get(name)
            fixed = found is not None and found.size is None and found.ranges
            return _present(expr) & (_families(field, found.ranges) if fixed and found else _ALL)
        case _:
            return _present(expr)


def _of_kind(kind: str) -> Pairs:
    if kind in _TRANSPORTS:
        return frozenset(pair for pair in _ALL if pair[1] == kind)
    if kind in ("ip4", "ip6"):
        return frozenset(pair for pair in _ALL if pair[0] == kind)
    if kind in ("arp", "l2"):
        return frozenset({("neither", "other")})
    if kind in ("nd", "mld"):
        return frozenset({("ip6", "icmp6")})
    if kind in ("fragment", "first-fragment", "later-fragment"):
        return frozenset(pair for pair in _ALL if pair[0] != "neither")
    return _ALL


def _present(expr: ir.Expr) -> Pairs:
    """Where the field of a test is there at all; absent is no match, also under `not`."""
    field = getattr(expr, "field", None)
    if field in _NEEDS:
        return frozenset(pair for pair in _ALL if pair[1] in _NEEDS[field])
    if field in _IP_ONLY or isinstance(expr, ir.Connection):
        return frozenset(pair for pair in _ALL if pair[0] != "neither")
    return _ALL


def _families(field: Field, ranges: ir.Ranges) -> Pairs:
    if field not in (Field.SRC, Field.DST) or not ranges:
        return _ALL
    families = {"ip6"} if ranges[0][0] < V4_BASE else set()
    families |= {"ip4"} if ranges[-1][1] >= V4_BASE else set()
    return frozenset(pair for pair in _ALL if pair[0] in families)


def _empty_field(expr: ir.Expr) -> str:
    """One field that has to be two values at once, in every alternative."""
    if isinstance(expr, ir.Or):
        reasons = [_empty_field(item) for item in expr.items]
        return reasons[0] if all(reasons) else ""
    if not isinstance(expr, ir.And):
        return ""
    seen: dict[Field, ir.Ranges] = {}
    for item in expr.items:
        if isinstance(item, ir.Within):
            seen[item.field] = intersect(seen.get(item.field, item.ranges), item.ranges)
    empty = [field for field, ranges in seen.items() if not ranges]
    if empty:
        return f"`{empty[0].value}` cannot have both values"
    return next((reason for item in expr.items if isinstance(item, ir.Or) and (reason := _empty_field(item))), "")
