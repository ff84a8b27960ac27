"""Tests of one field beside each other become one: a union in Or, an intersection in And.

Absence is kept: all of them are absent together. An intersection of nothing is left as it stands, for `false` is not `absent` under `not`.
"""

from __future__ import annotations

from compiler import ir
from compiler.diagnostics import Diagnostic
from compiler.passes.rewrite import apart, every_expression
from compiler.ranges import intersect, normalize


def run(program: ir.Program) -> tuple[ir.Program, list[Diagnostic]]:
    """The program with every And and Or merged; it finds nothing to tell."""
    return every_expression(program, merge), []


def merge(expr: ir.Expr) -> ir.Expr:
    """One node: its Within tests gathered by field, each at the place of the field's first."""
    if not isinstance(expr, ir.And | ir.Or) or (len(expr.items) > 1 and apart(expr.items)):
        return expr
    merged: list[ir.Expr] = []
    places: dict[ir.Field, int] = {}
    for item in expr.items:
        place = places.get(item.field) if isinstance(item, ir.Within) else None
        earlier = merged[place] if place is not None else None
        if isinstance(item, ir.Within) and isinstance(earlier, ir.Within) and place is not None:
            both = isinstance(expr, ir.And)
            ranges = intersect(earlier.ranges, item.ranges) if both else normalize((*earlier.ranges, *item.ranges))
            if ranges:
                merged[place] = ir.Within(item.field, ranges)
                continue
        elif isinstance(item, ir.Within):
            places[item.field] = len(merged)
        merged.append(item)
    if len(merged) == 1:
        return merged[0]
    return type(expr)(tuple(merged)) if len(merged) < len(expr.items) else expr
