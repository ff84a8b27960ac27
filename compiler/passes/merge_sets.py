"""Static sets with the same members are one, and memberships of one field beside each other become one look-up: a union in Or, an intersection in And.

Absence is kept: they are all absent together. A union is taken where it spares a look-up; what comes of it is a few ranges, a set that the policy has
already, or a set of its own that is named after the two. A policy's sets keep their names in every report: those come from its text.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from compiler import ir
from compiler.diagnostics import Diagnostic
from compiler.passes.rewrite import every_expression
from compiler.ranges import intersect, normalize

MAX_LITERAL = 4  # ranges that are compared, not looked up: of addresses in XDP (c_expr)
MAX_MERGED = 1 << 16  # ranges of a set: larger ones would be in memory twice for a look-up that is spared
_NAME = 64  # characters, ir_spec
_KEY = 8  # ranges at either end


def run(program: ir.Program) -> tuple[ir.Program, list[Diagnostic]]:
    """The program with fewer sets asked; it finds nothing to tell."""
    static = [item for item in program.sets if item.size is None]
    if not static:
        return program, []
    sets = _Sets({item.name for item in program.sets})
    for item in static:
        sets.ranges[item.name], sets.types[item.name] = item.ranges, item.type
        sets.first[item.name] = sets.find(item.type, item.ranges) or sets.learn(item.name)
    made = every_expression(program, lambda expr: _rewritten(expr, sets))
    return (replace(made, sets=(*made.sets, *sets.added)) if sets.added else made), []


@dataclass(slots=True)
class _Sets:
    """ranges, types: of each static set; first: the first with the same members; added: those that came of merging.

    known: the first ones, filed so that a million members are not hashed whole.
    """

    taken: set[str]
    ranges: dict[str, ir.Ranges] = field(default_factory=dict)
    types: dict[str, str] = field(default_factory=dict)
    first: dict[str, str] = field(default_factory=dict)
    known: dict[tuple[object, ...], list[str]] = field(default_factory=dict)
    added: list[ir.Set] = field(default_factory=list)

    def find(self, kind: str, members: ir.Ranges) -> str:
        """The first set with these members; "" for none."""
        return next((name for name in self.known.get(_filed(kind, members), ()) if self.ranges[name] == members), "")

    def learn(self, name: str) -> str:
        self.known.setdefault(_filed(self.types[name], self.ranges[name]), []).append(name)
        return name

    def named(self, kind: str, members: ir.Ranges, wish: str) -> str:
        """The set with these members, made if there is none."""
        if not (name := self.find(kind, members)):
            name, number = wish[:_NAME], 1
            while name in self.taken:
                number += 1
                name = f"{wish[: _NAME - 8]}-{number}"
            self.taken.add(name)
            self.added.append(ir.Set(name, kind, members))
            self.ranges[name], self.types[name], self.first[name] = members, kind, name
            self.learn(name)
        return name


def _filed(kind: str, members: ir.Ranges) -> tuple[object, ...]:
    return kind, len(members), members[:_KEY], members[-_KEY:]


def _rewritten(expr: ir.Expr, sets: _Sets) -> ir.Expr:
    if isinstance(expr, ir.Member) and expr.set in sets.ranges:
        first = sets.first[expr.set]
        return expr if first == expr.set else ir.Member(expr.field, first)
    if isinstance(expr, ir.Or):
        return _merged(expr, sets, lambda a, b: normalize((*a, *b)), "or")
    if isinstance(expr, ir.And):
        return _merged(expr, sets, intersect, "and")
    return expr


def _merged(expr: ir.And | ir.Or, sets: _Sets, join: Callable[[ir.Ranges, ir.Ranges], ir.Ranges], word: str) -> ir.Expr:
    """Each field's tests of which one is a static membership gathered at the place of the first."""
    if not any(isinstance(item, ir.Member) for item in expr.items):
        return expr
    items: list[ir.Expr] = []
    places: dict[ir.Field, int] = {}
    for item in expr.items:
        if _members(item, sets) is not None:
            assert isinstance(item, ir.Member | ir.Within)
            at = places.setdefault(item.field, len(items))
            if at < len(items) and (joined := _joined(items[at], item, sets, join, word)) is not None:
                items[at] = joined
                continue
        items.append(item)
    if len(items) == len(expr.items):
        return expr
    return items[0] if len(items) == 1 else type(expr)(tuple(items))


def _members(item: ir.Expr, sets: _Sets) -> ir.Ranges | None:
    """Of a test that can be merged."""
    if isinstance(item, ir.Member):
        return sets.ranges.get(item.set)
    return item.ranges if isinstance(item, ir.Within) else None


def _joined(a: ir.Expr, b: ir.Expr, sets: _Sets, join: Callable[[ir.Ranges, ir.Ranges], ir.Ranges], word: str) -> ir.Expr | None:
    """One test for both; None where two are better: nothing is in both, no look-up is spared, or the members are very many."""
    one, other = _members(a, sets), _members(b, sets)
    assert isinstance(a, ir.Member | ir.Within) and isinstance(b, ir.Member | ir.Within) and one is not None and other is not None
    named = [item for item in (a, b) if isinstance(item, ir.Member)]
    if not named or len(one) + len(other) > MAX_MERGED or not (members := join(one, other)):
        return None
    if len(members) <= MAX_LITERAL:
        return ir.Within(a.field, members)
    kind = sets.types[named[0].set]
    look_ups = (len(one) > MAX_LITERAL) + (len(other) > MAX_LITERAL)
    if look_ups == 0 or (look_ups == 1 and not sets.find(kind, members)):
        return None
    wish = f"-{word}-".join(item.set if isinstance(item, ir.Member) else "ranges" for item in (a, b))
    return ir.Member(a.field, sets.named(kind, members, wish))
