"""Applying a rewriting of expressions to a whole program. Expressions of a legal program nest at most 64 deep: recursion is safe."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from compiler import ir

Rewrite = Callable[[ir.Expr], ir.Expr]


def bottom_up(expr: ir.Expr, rewrite: Rewrite) -> ir.Expr:
    """`rewrite` applied to every node, children before their parents."""
    match expr:
        case ir.Not(item):
            expr = ir.Not(bottom_up(item, rewrite))
        case ir.And(items):
            expr = ir.And(tuple(bottom_up(item, rewrite) for item in items))
        case ir.Or(items):
            expr = ir.Or(tuple(bottom_up(item, rewrite) for item in items))
    return rewrite(expr)


def every_expression(program: ir.Program, rewrite: Rewrite) -> ir.Program:
    """The program with every expression in it (filters, steering, classes, protects) rewritten."""
    return replace(
        program,
        chains=tuple(
            replace(chain, rules=tuple(replace(r, when=bottom_up(r.when, rewrite)) for r in chain.rules))
            for chain in program.chains
        ),
        steers=tuple(
            replace(steer, rules=tuple(replace(r, when=bottom_up(r.when, rewrite)) for r in steer.rules))
            for steer in program.steers
        ),
        shapes=tuple(replace(shape, classes=_classes(shape.classes, rewrite)) for shape in program.shapes),
        protects=tuple(replace(item, when=bottom_up(item.when, rewrite)) for item in program.protects),
    )


def _classes(classes: tuple[ir.Class, ...], rewrite: Rewrite) -> tuple[ir.Class, ...]:
    return tuple(
        replace(
            item,
            when=None if item.when is None else bottom_up(item.when, rewrite),
            classes=_classes(item.classes, rewrite),
        )
        for item in classes
    )
