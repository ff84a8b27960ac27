"""Conditions and limits of rules, each different plain test lowered only once: ten thousand rules name a thousand prefixes.

What is remembered is what `predicates` makes of the same words in the same scope. A rule with anything wrong in it is taken apart again by the
parser, so that every finding has its place.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from compiler import contradiction, ir, limits, predicates, syntax
from compiler.findings import Findings
from compiler.parse import parse_condition, parse_line
from compiler.scope import Scope
from compiler.source import NOWHERE, Sources
from compiler.types import TYPES

_SIGNS = frozenset("{}(),=<>")


class Test(NamedTuple):
    """A test without anything wrong. pairs: contradiction.possible of it; items: its parts in a conjunction.

    field: of a Within, which a second test of that field may contradict. single: there is no more than that to contradict.
    """

    expr: ir.Expr
    items: tuple[ir.Expr, ...]
    pairs: int
    field: ir.Field | None
    single: bool


class Memory:
    """What is known of the tests of one scope, whose names are all declared."""

    def __init__(self, scope: Scope) -> None:
        self.apart = replace(scope, findings=Findings(), sources=Sources())  # findings that nobody sees
        self.known: dict[tuple[str, ...], Test | None] = {}
        self.limits: dict[tuple[str, ...], ir.Limit | None] = {}

    def conjunction(self, tests: tuple[tuple[str, ...], ...]) -> ir.Expr | None:
        """The expression of tests beside each other; None when there may be something to say about them."""
        items: list[ir.Expr] = []
        fields: list[ir.Field] = []
        pairs, single = contradiction.ALL, True
        expr: ir.Expr = ir.Const(True)
        for words in tests:
            test = self.known[words] if words in self.known else self._learn(words)
            if test is None:
                return None
            expr = test.expr
            items += test.items
            pairs &= test.pairs
            single &= test.single
            if test.field is not None:
                fields.append(test.field)
        whole = ir.And(tuple(items)) if len(tests) > 1 else expr
        if not pairs or ((not single or len(set(fields)) < len(fields)) and contradiction.never_matches(whole, self.apart.sets)):
            return None
        return whole

    def _learn(self, words: tuple[str, ...]) -> Test | None:
        self.known[words] = test = self._lowered(words)
        return test

    def _lowered(self, words: tuple[str, ...]) -> Test | None:
        scope = self.apart
        node = _of_values(words) or parse_condition("<test>", " ".join(words), scope.sources, scope.findings)
        expr = predicates.lower(scope, node) if node else ir.Const(False)
        items = expr.items if isinstance(expr, ir.And) else (expr,)
        if scope.findings.in_order() or contradiction.never_matches(ir.And(items), scope.sets):
            scope.findings = Findings()
            return None
        field = expr.field if isinstance(expr, ir.Within) else None
        return Test(expr, items, contradiction.possible(expr, scope.sets), field, not isinstance(expr, ir.And | ir.Or))


    def limit(self, node: syntax.Tests, counter: str) -> ir.Limit | None:
        """The limit of the rule whose counter that is; None when there may be something to say about it."""
        (words,) = node.words
        if words not in self.limits:
            made = limits.lower(self.apart, _limit(node), counter)
            self.limits[words] = None if self.apart.findings.in_order() else made
            self.apart.findings = Findings()
        known = self.limits[words]
        if known is None:
            return None
        return ir.Limit(counter, known.interval, known.burst, known.over, known.per, known.v4_prefix, known.v6_prefix, known.size)


def _limit(node: syntax.Tests) -> syntax.Limit:
    """The limit of a rule with the place of each word."""
    found = parse_line(node.span.file, node.line, node.span.line).limit
    assert isinstance(found, syntax.Limit)
    return found


def _of_values(words: tuple[str, ...]) -> syntax.FieldTest | None:
    """`src 10.0.0.0/8` and `dport { 80, 443 }` without the parser, which has read tests of this kind before."""
    if len(words) < 2 or words[0] not in TYPES:
        return None
    text = " ".join(words[1:])
    if text[0] == "{" and text[-1] == "}":
        values = [value.strip() for value in text[1:-1].removesuffix(" ").removesuffix(",").split(",")]
        if not all(value and " " not in value and _SIGNS.isdisjoint(value) for value in values):
            return None
        many = syntax.Literal(tuple([syntax.Word(value, NOWHERE) for value in values]), NOWHERE)
        return syntax.FieldTest(words[0], syntax.Operand("", many, NOWHERE), NOWHERE)
    if len(words) > 2 or not _SIGNS.isdisjoint(text):
        return None
    return syntax.FieldTest(words[0], syntax.Operand("", syntax.Word(text, NOWHERE), NOWHERE), NOWHERE)


def condition(scope: Scope, node: syntax.Condition | syntax.Tests) -> ir.Expr:
    """`predicates.condition`, also of tests that are still words."""
    if not isinstance(node, syntax.Tests):
        return predicates.condition(scope, node)
    found = _memory(scope).conjunction(node.words)
    if found is not None:
        return found
    when = parse_line(node.span.file, node.line, node.span.line).when
    assert when is not None and not isinstance(when, syntax.Tests)
    return predicates.condition(scope, when)


def limit(scope: Scope, node: syntax.Limit | syntax.Tests, counter: str) -> ir.Limit | None:
    """`limits.lower`, also of a limit that is still words."""
    if not isinstance(node, syntax.Tests):
        return limits.lower(scope, node, counter)
    return _memory(scope).limit(node, counter) or limits.lower(scope, _limit(node), counter)


def _memory(scope: Scope) -> Memory:
    if scope.memory is None:
        scope.memory = Memory(scope)
    return scope.memory
