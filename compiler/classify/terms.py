"""Rules as terms: a rule's condition as a union of boxes over the fields that tables can look up.

A term is one box: for each field that it names the values that the field may have. `not` is pushed to the leaves first, so that a leaf is
true only where its field is present (Kleene's logic; docs/packet-model.md, Judging): the box of `not dport 22` is the other ports, and a packet
without a port is in neither. Kinds are never absent: which of them a packet must have and must not have is a pair of masks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache

from compiler import ir, ranges
from compiler.ir import Field, Ranges

Fields = Mapping[Field, Ranges]  # a field that is not mentioned may also be absent
Met = dict[int, "list[Box]"]

MAX_TERMS = 64  # of one rule: beyond that it is judged by straight code
LOOKED_UP = frozenset(Field) - {Field.ETH_SRC, Field.ETH_DST}  # 48 bits: neither a table nor a trie
_BIT = {kind: 1 << at for at, kind in enumerate(ir.KINDS)}


@dataclass(frozen=True, slots=True)
class Box:
    """mask, kinds: the kinds (1 << index in ir.KINDS) that are asked for, and which of them the packet has to have."""

    fields: Fields
    mask: int = 0
    kinds: int = 0

    def meet(self, other: Box) -> Box | None:
        """What is in both; None for nothing."""
        if (self.kinds ^ other.kinds) & self.mask & other.mask:
            return None
        both = dict(self.fields)
        for name, values in other.fields.items():
            both[name] = ranges.intersect(both[name], values) if name in both else values
            if not both[name]:
                return None
        return Box(both, self.mask | other.mask, self.kinds | other.kinds)

    def join(self, other: Box) -> Box | None:
        """The box of either, where they differ in the values of one field alone; else None."""
        same = (self.mask, self.kinds, self.fields.keys()) == (other.mask, other.kinds, other.fields.keys())
        different = [name for name in self.fields if self.fields[name] != other.fields[name]] if same else []
        if len(different) != 1:
            return None
        name = different[0]
        return Box({**self.fields, name: ranges.normalize((*self.fields[name], *other.fields[name]))}, self.mask, self.kinds)


@dataclass(frozen=True, slots=True)
class Term:
    """One box of the rule with this number in its chain."""

    rule: int
    box: Box


class Inexpressible(Exception):
    """The condition hangs on state or on a field without a table, or needs more than MAX_TERMS boxes."""


def of_rule(number: int, rule: ir.Rule, sets: Mapping[str, ir.Set], met: Met | None = None) -> list[Term]:
    """The rule's terms; none when nothing can meet it. Raises Inexpressible.

    met: tests that rules above had as well, by identity; for rules of one list, which live as long as it does.
    """
    if rule.limit or rule.effects:
        raise Inexpressible
    when = rule.when
    if met is None or not isinstance(when, ir.And):
        return [Term(number, box) for box in _boxes(when, True, sets)]
    parts = []
    for item in when.items:
        part = met.get(id(item))
        if part is None:
            part = met[id(item)] = _boxes(item, True, sets)
        parts.append(part)
    return [Term(number, box) for box in _all(parts)]


def _boxes(expr: ir.Expr, want: bool, sets: Mapping[str, ir.Set]) -> list[Box]:
    match expr:
        case ir.Const(value):
            return [Box({})] if value == want else []
        case ir.Is(kind):
            return [Box({}, _BIT[kind], _BIT[kind] if want else 0)]
        case ir.Within(field, wanted):
            return _leaf(field, wanted, want)
        case ir.Bits(field, mask, value):
            return _leaf(field, _matching(mask, value, ir.FIELD_BITS[field]), want)
        case ir.Member(field, name):
            if sets[name].size is not None:
                raise Inexpressible
            return _leaf(field, sets[name].ranges, want)
        case ir.Connection():
            return []  # absent in every BPF program
        case ir.Not(item):
            return _boxes(item, not want, sets)
        case ir.And(items) | ir.Or(items):
            parts = [_boxes(item, want, sets) for item in items]
            return _all(parts) if isinstance(expr, ir.And) == want else _any(parts)
    raise Inexpressible


def _leaf(field: Field, wanted: Ranges, want: bool) -> list[Box]:
    if field not in LOOKED_UP:
        raise Inexpressible
    values = wanted if want else ranges.subtract(((0, _last(field)),), wanted)
    return [Box({field: values})] if values else []


def _last(field: Field) -> int:
    return ir.V4_LAST if field in (Field.SRC, Field.DST) else (1 << ir.FIELD_BITS[field]) - 1


@cache
def _matching(mask: int, value: int, bits: int) -> Ranges:
    return ranges.from_bits(mask, value, bits)


def _all(parts: list[list[Box]]) -> list[Box]:
    """What is in one box of each part."""
    if (one := _apart(parts)) is not None:
        return [one]
    found = [Box({})]
    for part in parts:
        found = [both for a in found for b in part if (both := a.meet(b)) is not None]
        if len(found) > MAX_TERMS:
            raise Inexpressible
    return found


def _apart(parts: list[list[Box]]) -> Box | None:
    """The only box of parts that have one each and name no field and no kind twice, as nearly all rules have them."""
    fields: dict[Field, Ranges] = {}
    mask = kinds = named = 0
    for part in parts:
        if len(part) != 1 or part[0].mask & mask:
            return None
        box = part[0]
        fields.update(box.fields)
        named += len(box.fields)
        mask, kinds = mask | box.mask, kinds | box.kinds
    return Box(fields, mask, kinds) if named == len(fields) else None


def _any(parts: list[list[Box]]) -> list[Box]:
    """Side by side; neighbours that differ in one field alone become one, so that a list of ports is one term."""
    found: list[Box] = []
    for box in (box for part in parts for box in part):
        if found and (joined := found[-1].join(box)) is not None:
            found[-1] = joined
        else:
            found.append(box)
    if len(found) > MAX_TERMS:
        raise Inexpressible
    return found
