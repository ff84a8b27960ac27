"""Syntax → ir.Program: every kind of statement by its own module, in the order in which they need each other."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeVar

from compiler import check_filter, check_promises, check_shape, check_steer, check_tests, check_tune, ir, lints, syntax
from compiler.scope import Scope

Node = TypeVar("Node")


def program(scope: Scope, statements: list[syntax.Statement]) -> ir.Program:
    """The program of all statements. What is wrong is in the scope's findings; with an error there, the program is of no use."""

    def of(kind: type[Node]) -> list[Node]:
        return [statement for statement in statements if isinstance(statement, kind)]

    chains = check_filter.chains(scope, of(syntax.Filter))
    check_filter.check_unused(scope, _used(statements))
    steers, steering = check_steer.steers(scope, of(syntax.Steer))
    shapes = check_shape.shapes(scope, of(syntax.Shape))
    settings = (*steering, *check_tune.settings(scope, of(syntax.Tune)))
    check_tune.check_once(scope, settings)
    protects = check_promises.protects(scope, of(syntax.Protect))
    made = ir.Program(
        tuple(scope.nics.values()), tuple(scope.sets.values()), chains, steers, shapes, settings, protects
    )
    expects = check_promises.expects(scope, of(syntax.Expect), made)
    tests = check_tests.scenarios(scope, of(syntax.Test), made)
    made = replace(made, expects=expects, tests=tests)
    if not scope.findings.errors:
        lints.look(made, scope.findings)
    return made


def _used(statements: list[syntax.Statement]) -> set[str]:
    """The rule lists that a filter uses, directly or through another list."""
    lists = {s.name.text: s for s in statements if isinstance(s, syntax.Rules)}
    waiting: list[object] = [s for s in statements if isinstance(s, syntax.Filter)]
    found: set[str] = set()
    while waiting:
        for item in getattr(waiting.pop(), "items", ()):
            if isinstance(item, syntax.Use) and item.name.text in lists and item.name.text not in found:
                found.add(item.name.text)
                waiting.append(lists[item.name.text])
    return found
