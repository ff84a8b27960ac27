"""Straight code or tables: what a list of rules costs a packet either way, and which is taken.

A rule can go into tables when it asks for fields alone. A limit, effects and members of dynamic sets stay straight code in either case. The
figures are nanoseconds on one x86-64 machine with retpolines (bench/, docs/decisions/0006): they decide between two right programs, no more.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import log10
from typing import TYPE_CHECKING

from compiler import ir
from compiler.classify import terms
from compiler.classify.shape import TooLarge
from compiler.targets import c_expr

if TYPE_CHECKING:
    from compiler.classify.shape import Shape, Tables

_RULE = 0.7
_HASH, _TRIE_FIRST, _TRIE_DECADE = 38, 80, 110  # a helper call each; a trie's depth grows with its entries
_TABLES, _ADDRESS, _FIELD = 14, 6, 2
_ROW_WORD, _AGGREGATED, _BUCKETS = 1.5, 20, 9
_CACHES = ((1 << 18, 0), (1 << 20, 8), (1 << 25, 25))  # bytes of tables, ns; beyond: _MEMORY
_MEMORY = 50


@dataclass(frozen=True, slots=True)
class Pick:
    """tables: None where all is straight code; straight: the rules that are; reason: of the choice, for the plan; too_large: what of the tables was."""

    tables: Tables | None
    straight: tuple[ir.Rule, ...]
    reason: str
    too_large: str = ""


def pick(rules: Sequence[ir.Rule], sets: Mapping[str, ir.Set], classifier: str, record: Callable[[int], int]) -> Pick:
    """classifier: straight, tables, or auto for what costs less; record(number): what a match of this rule gives back.

    Raises TooLarge where tables were demanded and do not fit.
    """
    all_straight = _cost_of_all(rules, sets)
    say = f"{len(rules)} rules one by one: about {all_straight:.0f} ns"
    if classifier == "straight" or (classifier == "auto" and all_straight <= _TABLES + _ADDRESS):
        return Pick(None, tuple(rules), say)
    found, straight = _divide(rules, sets)
    if not found:
        return Pick(None, tuple(rules), f"{say}; none asks for fields alone, as tables need")
    from compiler.classify import tables  # NumPy: only where tables are made

    try:
        made = tables.build(found, {term.rule: record(term.rule) for term in found})
    except TooLarge as error:
        if classifier == "tables":
            raise
        return Pick(None, tuple(rules), f"{say}; no tables: {error}", str(error))
    by_tables = shape_cost(made.shape) + _cost_of_all(straight, sets)
    size = f"{len(rules) - len(straight)} rules in tables of {made.shape.arena >> 10} KiB{_parts(made.shape)}"
    if straight:
        size += f", {len(straight)} one by one (limits, effects, dynamic sets)"
    if classifier == "auto" and by_tables >= all_straight:
        return Pick(None, tuple(rules), f"{say}; with {size}: about {by_tables:.0f} ns")
    why = f"; {made.why}" if made.why else ""
    return Pick(made, straight, f"{size}: about {by_tables:.0f} ns{why}; {say}")


def shape_cost(shape: Shape) -> float:
    """ns a packet, with flows enough that the tables' size tells."""
    caches = next((cost for size, cost in _CACHES if shape.arena <= size), _MEMORY)
    asked = sum(name.endswith(".root4") for name in shape.names)
    fields = sum(name in c_expr.FIELDS for name in shape.names)
    rows = _AGGREGATED if shape.aggregates else _ROW_WORD * shape.words
    return _TABLES + caches + _ADDRESS * asked + _FIELD * fields + rows + _BUCKETS * sum(map(bool, shape.buckets))


def _parts(shape: Shape) -> str:
    """How they are looked up, in the words of the decision record."""
    said = []
    if any(shape.buckets):
        said.append(f"filed under addresses, at most {max(shape.buckets)} a list")
    if shape.words:
        said.append(f"rows of {64 * shape.words} bits")
    elif not said:
        said.append("one cross-product")
    return f" ({', '.join(said)})"


def _divide(rules: Sequence[ir.Rule], sets: Mapping[str, ir.Set]) -> tuple[list[terms.Term], tuple[ir.Rule, ...]]:
    """The terms of the rules that tables can hold, and the other rules."""
    found: list[terms.Term] = []
    straight = []
    met: terms.Met = {}
    for number, rule in enumerate(rules):
        try:
            found += terms.of_rule(number, rule, sets, met)
        except terms.Inexpressible:
            straight.append(rule)
    return found, tuple(straight)


def _cost_of_all(rules: Sequence[ir.Rule], sets: Mapping[str, ir.Set]) -> float:
    """Thousands of rules share their tests (compiler/remembered.py): each is weighed once."""
    known: dict[int, float] = {}
    total = 0.0
    for rule in rules:
        parts = rule.when.items if isinstance(rule.when, ir.And) else (rule.when,)
        cost = 0.0  # of a rule by itself: sums in another order would differ in their last bits
        for part in parts:
            if (of_part := known.get(id(part))) is None:
                of_part = known[id(part)] = _cost(part, sets)
            cost += of_part
        total += cost
    return total


def _cost(expr: ir.Expr, sets: Mapping[str, ir.Set]) -> float:
    """Of straight code, when nothing before spared it."""
    match expr:
        case ir.Not(item):
            return _cost(item, sets)
        case ir.And(items) | ir.Or(items):
            return sum(_cost(item, sets) for item in items)
        case ir.Within(field, ranges):
            return _look_up(field, ranges)
        case ir.Member(field, name):
            known = sets[name]
            return _HASH if known.size is not None else _look_up(field, known.ranges)
    return _RULE / 2


def _look_up(field: ir.Field, ranges: ir.Ranges) -> float:
    """As c_expr lowers it: comparisons, a hash of addresses, or a trie."""
    if field not in c_expr.ADDRESSES or len(ranges) <= c_expr.MAX_ADDRESS_RANGES:
        return _RULE / 2
    if all(low == high for low, high in ranges):
        return _HASH
    return max(_HASH, _TRIE_FIRST + _TRIE_DECADE * (log10(len(ranges)) - 2))
