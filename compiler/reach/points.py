"""Packets as points, judged many at once: the bits of a long integer are points, and a condition is the bits of those for which it is true.

A condition's parts are looked up once for each different one, so that ten thousand rules over ten thousand points are fifty thousand `and`s of
such integers. What depends on state counts as true only where it is true in every state, as in `Space.must`.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress

from compiler import ir, ranges
from compiler.ir import Field
from compiler.reach.shapes import FIELDS_OF_KINDS
from compiler.reach.values import Values, matching
from compiler.space import Shape


@dataclass(frozen=True, slots=True)
class Point:
    """values: of fields that matter; the others have what the shape's `usual` says. control: the control kind it is, or ""."""

    shape: int
    values: Values
    control: str = ""


@dataclass(frozen=True, slots=True)
class _Sorted:
    """One field's different values, ascending; below[n]: the points with one of the first n."""

    values: list[int]
    below: list[int]

    def within(self, wanted: ir.Ranges) -> int:
        values, below, found = self.values, self.below, 0
        if len(wanted) > len(values):
            for at, value in enumerate(values):
                if ranges.contains(wanted, value):
                    found |= below[at + 1] ^ below[at]
            return found
        for low, high in wanted:
            found |= below[bisect_right(values, high)] ^ below[bisect_left(values, low)]
        return found


class Points:
    """A list of points, asked for conditions."""

    def __init__(self, points: Sequence[Point], shapes: Sequence[Shape], usual: Sequence[Values], sets: Mapping[str, ir.Set]) -> None:
        self._points, self._shapes, self._usual, self._sets = points, shapes, usual, sets
        self.all = (1 << len(points)) - 1
        self._fields: dict[int, _Sorted] = {}
        self._known: dict[int, tuple[int, ir.Expr]] = {}  # the expression is kept so that nothing else gets its id
        self._kinds: dict[str, int] = {}
        self._bits: dict[tuple[int, int, bool], int] = {}
        controls = {kind: _mask([point.control == kind for point in points]) for kind in {point.control for point in points}}
        self.plain = controls.pop("", 0)
        self.control = controls

    def true(self, expr: ir.Expr, among: int) -> int:
        """The points of `among` for which `expr` is true in every state."""
        if isinstance(expr, ir.And):
            for item in expr.items:
                if (known := self._known.get(id(item))) is None:
                    known = self._known[id(item)] = self._truth(item, True), item
                among &= known[0]
                if not among:
                    return 0
            return among
        return among & self._truth(expr, True)

    def _truth(self, expr: ir.Expr, want: bool) -> int:
        """Where the value is `want`, by Kleene's logic."""
        if type(expr) is ir.Within:
            return self._within(expr.field, expr.ranges, want)
        match expr:
            case ir.Const(value):
                return self.all if value == want else 0
            case ir.Not(item):
                return self._truth(item, not want)
            case ir.And(items) | ir.Or(items):
                every = isinstance(expr, ir.And) == want
                found = self.all if every else 0
                for item in items:
                    found = found & self._truth(item, want) if every else found | self._truth(item, want)
                return found
        return self._leaf(expr, want)

    def _leaf(self, expr: ir.Expr, want: bool) -> int:
        match expr:
            case ir.Is(kind):
                found = self._kind(kind)
                return found if want else self.all ^ found
            case ir.Bits(field, mask, value):
                key = mask, value, want
                if key not in self._bits:
                    self._bits[key] = self._within(field, matching(field, mask, value, want), True)
                return self._bits[key]
            case ir.Member(field, name):
                known = self._sets[name]
                if known.size is None:
                    return self._within(field, known.ranges, want)
                if want:
                    return 0
                never = ranges.normalize(pair for other in known.never for pair in self._sets[other].ranges)
                return self._within(field, never, True)
        return 0  # a connection state

    def _within(self, field: Field, wanted: ir.Ranges, want: bool) -> int:
        if (known := self._fields.get(id(field))) is None:
            known = self._fields[id(field)] = self._sorted(id(field))
        if len(wanted) == 1:
            ((low, high),) = wanted
            begin = bisect_left(known.values, low)
            inside = known.below[bisect_right(known.values, high, begin)] ^ known.below[begin]
        else:
            inside = known.within(wanted)
        return inside if want else known.below[-1] ^ inside

    def _sorted(self, field: int) -> _Sorted:
        usual = [values.get(field) for values in self._usual]
        found = [point.values.get(field, usual[point.shape]) for point in self._points]
        order = sorted(((value, at) for at, value in enumerate(found) if value is not None))
        values: list[int] = []
        below, running = [0], 0
        for value, at in order:
            if not values or values[-1] != value:
                values.append(value)
                below.append(running)
            running |= 1 << at
            below[-1] = running
        return _Sorted(values, below)

    def _kind(self, kind: str) -> int:
        if (found := self._kinds.get(kind)) is None:
            if kind in ir.CONTROL_KINDS:
                found = self.control.get(kind, 0)
            elif kind in FIELDS_OF_KINDS:  # `vlan`
                found = self._within(Field.VLAN, ((1, 4095),), True)
            else:
                has = [kind in shape.kinds for shape in self._shapes]
                found = _mask([has[point.shape] for point in self._points])
            self._kinds[kind] = found
        return found


def numbers(bits: int) -> Iterator[int]:
    """The numbers of the bits that are set, ascending."""
    text = bin(bits)[:1:-1]
    return compress(range(len(text)), map(int, text)) if bits.bit_count() > 8 else _few(bits)


def _few(bits: int) -> Iterator[int]:
    while bits:
        low = bits & -bits
        yield low.bit_length() - 1
        bits ^= low


def _mask(flags: Iterable[bool]) -> int:
    """The flags as bits, the first one lowest."""
    text = "".join(["1" if flag else "0" for flag in flags])
    return int(text[::-1] or "0", 2)
