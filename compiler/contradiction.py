"""Finds conditions that no packet can meet: address families, transports and value ranges that exclude each other.

It errs on the side of "some packet may match"; exact questions are `space.py`'s. A condition is looked at as the set of (family,
transport) pairs that it leaves possible, and, inside one `and`, as the intersection of the ranges of each field.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from itertools import product
from operator import and_, or_

from compiler import ir
from compiler.ir import V4_BASE, Field
from compiler.ranges import intersect

_TRANSPORTS = ("tcp", "udp", "sctp", "icmp4", "icmp6", "other")
_PAIRS = tuple(
    (family, transport)
    for family, transport in product(("ip4", "ip6", "neither"), _TRANSPORTS)
    if (family, transport) not in (("ip4", "icmp6"), ("ip6", "icmp4")) and (family != "neither" or transport == "other")
)
ALL = (1 << len(_PAIRS)) - 1
"""Every pair of family and transport; a set of pairs is a number with their bits."""


def _pairs(*names: str) -> int:
    """The pairs with one of these families or transports."""
    return sum(1 << bit for bit, pair in enumerate(_PAIRS) if set(pair) & set(names))


_NEEDS = {
    Field.SPORT: ("tcp", "udp", "sctp"), Field.DPORT: ("tcp", "udp", "sctp"), Field.TCP_FLAGS: ("tcp",),
    Field.ICMP_TYPE: ("icmp4", "icmp6"), Field.ICMP_CODE: ("icmp4", "icmp6"),
}  # fmt: skip
_IP_ONLY = (Field.SRC, Field.DST, Field.PROTO, Field.DSCP, Field.TTL, Field.LENGTH)


_V4, _V6, _IP = _pairs("ip4"), _pairs("ip6"), _pairs("ip4", "ip6")
_OF_KIND = {
    **{name: _pairs(name) for name in (*_TRANSPORTS, "ip4", "ip6")},
    **dict.fromkeys(("arp", "l2"), _pairs("neither")),
    **dict.fromkeys(("nd", "mld"), _pairs("ip6") & _pairs("icmp6")),
    **dict.fromkeys(("fragment", "first-fragment", "later-fragment"), _IP),
}
_THERE = {**{field: _pairs(*names) for field, names in _NEEDS.items()}, **dict.fromkeys(_IP_ONLY, _IP)}


def never_matches(expr: ir.Expr, sets: Mapping[str, ir.Set]) -> str:
    """Why no packet can match `expr`, in words; "" when one may."""
    if not possible(expr, sets):
        return "its parts need different protocols or address families"
    return _empty_field(expr)


def possible(expr: ir.Expr, sets: Mapping[str, ir.Set]) -> int:
    """The pairs for which `expr` may be true."""
    match expr:
        case ir.And(items):
            return reduce(and_, (possible(item, sets) for item in items), ALL)
        case ir.Or(items):
            return reduce(or_, (possible(item, sets) for item in items), 0)
        case ir.Is(kind):
            return _OF_KIND.get(kind, ALL)
        case ir.Not(ir.Is(kind)) if kind in (*_TRANSPORTS, "ip4", "ip6"):
            return ALL & ~_OF_KIND[kind]
        case ir.Not(item):
            return _present(item)
        case ir.Within(field, ranges):
            return _present(expr) & _families(field, ranges)
        case ir.Member(field, name):
            found = sets.get(name)
            fixed = found is not None and found.size is None and found.ranges
            return _present(expr) & (_families(field, found.ranges) if fixed and found else ALL)
        case _:
            return _present(expr)


def _present(expr: ir.Expr) -> int:
    """Where the field of a test is there at all; absent is no match, also under `not`."""
    if isinstance(expr, ir.Connection):
        return _IP
    field: Field | None = getattr(expr, "field", None)
    return _THERE.get(field, ALL) if field else ALL


def _families(field: Field, ranges: ir.Ranges) -> int:
    if field not in (Field.SRC, Field.DST) or not ranges:
        return ALL
    return (_V6 if ranges[0][0] < V4_BASE else 0) | (_V4 if ranges[-1][1] >= V4_BASE else 0)


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
