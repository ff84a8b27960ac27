"""Every shape of packets, those that are not whole among them: what `compiler.space` proves for whole packets is proved here for all.

docs/packet-model.md says where parsing stops and what is absent then; each such stop is a shape of its own, whose kinds are constants and
whose fields are there or not. A shape may hold packets that there are none of; every packet is in exactly one (tests/pure/reach holds it).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import cache

from compiler import ir
from compiler.ir import Field
from compiler.space import Shape, whole_shapes

FIELDS_OF_KINDS = {
    "vlan": {Field.VLAN}, "nd": {Field.ICMP_TYPE, Field.TTL}, "mld": {Field.ICMP_TYPE}, "l2": {Field.ETHERTYPE, Field.ETH_DST},
}  # fmt: skip
"""Kinds that a shape leaves open, and what they hang on."""
_INNER = frozenset({Field.SPORT, Field.DPORT, Field.TCP_FLAGS, Field.ICMP_TYPE, Field.ICMP_CODE})
_LINK = frozenset({Field.ETH_SRC, Field.ETH_DST, Field.VLAN, Field.VLAN_INNER, Field.ETHERTYPE})


@cache
def every_shape() -> tuple[Shape, ...]:
    """Disjoint; together all packets that a parser can meet. Whole ones come first."""
    return (*whole_shapes(), *_broken())


def _broken() -> Iterator[Shape]:
    for shape in whole_shapes():
        if "ip4" in shape.kinds:
            yield _without(shape, "cut short", _INNER)  # a wrong length, or the transport's header is not all there
        elif "ip6" in shape.kinds and "later-fragment" not in shape.kinds and shape.kinds & {"tcp", "udp", "sctp", "icmp6"}:
            yield _without(shape, "cut short", _INNER)
        if shape.kinds & {"tcp", "udp"} and "later-fragment" not in shape.kinds:
            yield _without(shape, "inconsistent", frozenset())  # TCP's data offset, UDP's length
        if shape.name == "other":
            yield _without(shape, "no tag read", _LINK - {Field.ETH_SRC, Field.ETH_DST})
            yield _without(shape, "one tag read", frozenset({Field.ETHERTYPE, Field.VLAN_INNER}))
            yield _without(shape, "two tags read", frozenset({Field.ETHERTYPE}))
    for family in ("ip4", "ip6"):
        plain = next(shape for shape in whole_shapes() if shape.name == f"{family} other")
        yield _without(plain, "no header", frozenset(Field) - _LINK)
        if family == "ip6":  # its payload or its extension headers are not all there: `proto` is not known
            yield _without(plain, "no transport", _INNER | {Field.PROTO})
            first = next(shape for shape in whole_shapes() if shape.name == "ip6 other first")
            yield _without(first, "no transport", _INNER | {Field.PROTO})


def _without(shape: Shape, what: str, fields: frozenset[Field]) -> Shape:
    return Shape(f"{shape.name}, {what}", shape.kinds | {"malformed"}, tuple((name, values) for name, values in shape.domain if name not in fields))


def told_apart(shapes: Iterable[Shape], kinds: set[str], fields: set[Field]) -> tuple[Shape, ...]:
    """One shape of each sort that these kinds and fields, or the judging of control traffic, tell from others."""
    ordered = sorted(fields)
    sorts = {(shape.kinds & kinds, tuple(map(shape.values, ordered)), _control(shape)): shape for shape in reversed([*shapes])}
    return tuple(reversed(sorts.values()))


def tests_of(when: Iterable[ir.Expr]) -> list[ir.Expr]:
    """Every different object among the tests that expressions are made of."""
    found: dict[int, ir.Expr] = {}
    pending = [*when]
    while pending:
        several = [expr for expr in pending if isinstance(expr, ir.And | ir.Or | ir.Not)]
        found.update((id(expr), expr) for expr in pending if not isinstance(expr, ir.And | ir.Or | ir.Not))
        parts: dict[int, ir.Expr] = {}
        for expr in several:
            items = (expr.item,) if isinstance(expr, ir.Not) else expr.items
            parts.update(zip(map(id, items), items, strict=True))
        pending = [*parts.values()]
    return [*found.values()]


def asked_for(tests: Iterable[ir.Expr]) -> tuple[set[str], set[Field]]:
    """The kinds and fields that tests hang on."""
    kinds: set[str] = set()
    fields: dict[int, Field] = {}  # hashing an Enum is slow
    for expr in tests:
        if isinstance(expr, ir.Is):
            kinds.add(expr.kind)
            fields.update((id(name), name) for name in FIELDS_OF_KINDS.get(expr.kind, ()))
        elif isinstance(expr, ir.Within | ir.Bits | ir.Member):
            fields[id(expr.field)] = expr.field
        elif isinstance(expr, ir.Connection):
            kinds |= {"ip4", "ip6"}
    return kinds, set(fields.values())


def _control(shape: Shape) -> tuple[bool, ...]:
    """Which control kinds it may hold: what else looks alike is judged by other rules."""
    icmp = "icmp6" in shape.kinds and bool(shape.values(Field.ICMP_TYPE))
    return "arp" in shape.kinds, icmp and "fragment" not in shape.kinds, icmp, bool(shape.values(Field.ETHERTYPE)) and not shape.kinds
