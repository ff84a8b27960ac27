"""First match over many packets at once, rule by rule: the check for policies that are too big for the interpreter.

A set of packets is one integer, bit i for packet i; an expression becomes two of them, where it is true and where it is false (absent
where neither: LANGUAGE.md, meaning 2). It reads the IR as it stands, one rule after the other, and shares nothing with the lowering, its
tables or NumPy. Limits count as kept and dynamic sets as empty: who needs their state asks the interpreter.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from functools import reduce
from operator import and_, or_

from compiler import ir

_REMEMBERED = 1 << 31  # packets over all leaves, each of which takes two bits of one: half a GiB
Truth = tuple[int, int]  # the packets for which an expression is true, and false


class Oracle:
    """Judges packets (their fields and kinds, none of them control traffic) by one chain."""

    def __init__(self, packets: Sequence[tuple[Mapping[ir.Field, int], frozenset[str]]], sets: Mapping[str, ir.Set]) -> None:
        self._sets = sets
        self._count = len(packets)
        self._all = (1 << self._count) - 1
        self._known: dict[ir.Expr, Truth] = {}
        self._kinds = {kind: self._bits([i for i, (_, kinds) in enumerate(packets) if kind in kinds]) for kind in ir.KINDS}
        self._columns: dict[ir.Field, tuple[list[int], list[int], int]] = {}
        for field in ir.Field:
            ordered = sorted((fields[field], i) for i, (fields, _) in enumerate(packets) if field in fields)
            places = [i for _, i in ordered]
            self._columns[field] = ([value for value, _ in ordered], places, self._bits(places))

    def first_matches(self, rules: Sequence[ir.Rule]) -> list[int]:
        """For each packet the index of the rule that decides it; len(rules) where none does."""
        result = [len(rules)] * self._count
        left = self._all
        for index, rule in enumerate(rules):
            if not left:
                break
            met = self.truth(rule.when)[0] & left
            left ^= met
            for place in _places(met):
                result[place] = index
        return result

    def truth(self, expr: ir.Expr) -> Truth:
        """Where the expression is true, and where it is false. Leaves that come again are not read again."""
        match expr:
            case ir.Const(value):
                return (self._all, 0) if value else (0, self._all)
            case ir.Is(kind):
                return self._kinds[kind], self._all ^ self._kinds[kind]
            case ir.Connection():
                return 0, 0
            case ir.Not(item):
                true, false = self.truth(item)
                return false, true
            case ir.And(items):
                truths = [self.truth(item) for item in items]
                return reduce(and_, (t for t, _ in truths), self._all), reduce(or_, (f for _, f in truths), 0)
            case ir.Or(items):
                truths = [self.truth(item) for item in items]
                return reduce(or_, (t for t, _ in truths), 0), reduce(and_, (f for _, f in truths), self._all)
        if expr not in self._known:
            if len(self._known) * self._count > _REMEMBERED:
                self._known.clear()
            self._known[expr] = self._leaf(expr)
        return self._known[expr]

    def _leaf(self, expr: ir.Within | ir.Bits | ir.Member) -> Truth:
        values, places, have = self._columns[expr.field]
        if isinstance(expr, ir.Bits):
            met = self._bits([p for value, p in zip(values, places, strict=True) if value & expr.mask == expr.value])
            return met, have ^ met
        ranges = expr.ranges if isinstance(expr, ir.Within) else self._members(self._sets[expr.set])
        if len(ranges) > len(values):
            return self._by_value(values, places, ranges, have)
        spans = [places[bisect_left(values, low) : bisect_right(values, high)] for low, high in ranges]
        met = self._bits([place for span in spans for place in span])
        return met, have ^ met

    def _members(self, known: ir.Set) -> ir.Ranges:
        return () if known.size is not None else known.ranges

    def _by_value(self, values: list[int], places: list[int], ranges: ir.Ranges, have: int) -> Truth:
        """A set that is larger than the packets are many: each value is looked up in it."""
        lows = [low for low, _ in ranges]
        inside = [p for value, p in zip(values, places, strict=True) if (at := bisect_right(lows, value)) and value <= ranges[at - 1][1]]
        met = self._bits(inside)
        return met, have ^ met

    def _bits(self, places: Sequence[int]) -> int:
        octets = bytearray(self._count // 8 + 1)
        for place in places:
            octets[place >> 3] |= 1 << (place & 7)
        return int.from_bytes(octets, "little")


def _places(bits: int) -> list[int]:
    """The numbers of the bits that are set."""
    found = []
    while bits:
        low = bits & -bits
        found.append(low.bit_length() - 1)
        bits ^= low
    return found
