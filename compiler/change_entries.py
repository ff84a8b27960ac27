"""A rule that has come beside the tables → the boxes that are tried for it (tables.changes)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from compiler import ir
from compiler.change_index import Changeable
from compiler.classify import terms
from compiler.ir import Field
from compiler.tables import changes
from compiler.tables.changes import Entry


class Whole(Exception):
    """The change cannot be told by itself: the policy has to be compiled whole. The text says why."""


def of_rule(own: Changeable, before: int, nth: int, rule: ir.Rule, sets: Mapping[str, ir.Set]) -> Iterator[Entry]:
    """The entries of the nth rule that has come, which stands in front of counter `before`. Raises Whole for a rule that no entry can say."""
    from compiler.targets import c_expr

    if c_expr.control_mask(rule.when):
        raise Whole("a rule for control packets has changed")
    try:
        boxes = [term.box for term in terms.of_rule(nth, rule, sets)]
    except terms.Inexpressible:
        raise Whole("a rule that has come is not one for tables (a limit, an effect, a dynamic set)") from None
    for box in boxes:
        if not box.fields.keys() <= set(own.fields):
            raise Whole("a rule asks for a field that no rule asked for")
        yield from _of_box(box, before, nth, rule.verdict == "pass")


def _of_box(box: terms.Box, before: int, nth: int, passes: bool) -> Iterator[Entry]:
    """An entry has one range a field."""
    names = list(box.fields)
    listed = [_ways(name, box.fields[name]) for name in names]
    for chosen in product(*listed):
        values = dict(zip(names, chosen, strict=True))
        small = tuple((str(name), *values[name]) for name in names if name not in (Field.SRC, Field.DST))
        yield Entry(before, nth, passes, box.mask, box.kinds, values.get(Field.SRC), values.get(Field.DST), small)  # type: ignore[arg-type]


def _ways(name: Field, ranges: ir.Ranges) -> Sequence[tuple[int, ...]]:
    """What an entry can ask of the field, one after the other."""
    if name in (Field.SRC, Field.DST):
        return _of_families(ranges)
    return _of_bits(ranges) if name == changes.BITS else ranges


def _of_bits(ranges: ir.Ranges) -> list[tuple[int, int]]:
    """(value, mask) of a field of eight bits: one where the values are those of some bits, else one for each value."""
    values = [value for low, high in ranges for value in range(low, high + 1)]
    same, any_ = values[0], 0
    for value in values:
        same, any_ = same & value, any_ | value
    free = same ^ any_
    return [(same, 0xFF & ~free)] if len(values) == 1 << free.bit_count() else [(value, 0xFF) for value in values]


def _of_families(ranges: ir.Ranges) -> list[tuple[int, int, int]]:
    """(family, first, last) of address ordinals."""
    found = []
    for low, high in ranges:
        if low < ir.V4_BASE:
            found.append((6, low, min(high, ir.V4_BASE - 1)))
        if high >= ir.V4_BASE:
            found.append((4, max(low, ir.V4_BASE) - ir.V4_BASE, high - ir.V4_BASE))
    return found
