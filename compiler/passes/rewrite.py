"""Applying a rewriting of expressions to a whole program. Expressions of a legal program nest at most 64 deep: recursion is safe.

What a rewriting leaves alone stays the same object: of a hundred thousand rules most do, and a program that is the same needs no second check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from operator import is_
from typing import TypeVar

from compiler import ir

Rewrite = Callable[[ir.Expr], ir.Expr]
Ruled = TypeVar("Ruled", ir.Chain, ir.Steer)
Item = TypeVar("Item")


def bottom_up(expr: ir.Expr, rewrite: Rewrite) -> ir.Expr:
    """`rewrite` applied to every node, children before their parents."""
    if isinstance(expr, ir.And | ir.Or):
        items = _each(expr.items, lambda item: bottom_up(item, rewrite))
        if items is not expr.items:
            expr = type(expr)(items)
    elif isinstance(expr, ir.Not):
        item = bottom_up(expr.item, rewrite)
        if item is not expr.item:
            expr = ir.Not(item)
    return rewrite(expr)


def apart(items: Iterable[ir.Expr]) -> bool:
    """Whether they are tests of different fields and kinds, among which there is nothing to fold or to merge. Quick; False where it is not sure."""
    seen: set[object] = set()
    for item in items:
        if type(item) is ir.Within:
            mark: object = id(item.field)  # hashing an Enum is slow, and its members are one each
        elif type(item) is ir.Is:
            mark = item.kind
        else:
            return False
        if mark in seen:
            return False
        seen.add(mark)
    return True


def every_expression(program: ir.Program, rewrite: Rewrite) -> ir.Program:
    """The program with every expression in it (filters, steering, classes, protects) rewritten; the program itself when none changed."""

    def ruled(block: Ruled) -> Ruled:
        rules = _each(block.rules, matching)
        return block if rules is block.rules else replace(block, rules=rules)

    def matching(item: Item) -> Item:
        when = bottom_up(item.when, rewrite)  # type: ignore[attr-defined]
        return item if when is item.when else replace(item, when=when)  # type: ignore[attr-defined, type-var]

    def shaped(shape: ir.Shape) -> ir.Shape:
        classes = _classes(shape.classes, rewrite)
        return shape if classes is shape.classes else replace(shape, classes=classes)

    new = (
        _each(program.chains, ruled),
        _each(program.steers, ruled),
        _each(program.shapes, shaped),
        _each(program.protects, matching),
    )
    if all(map(is_, new, (program.chains, program.steers, program.shapes, program.protects))):
        return program
    return replace(program, chains=new[0], steers=new[1], shapes=new[2], protects=new[3])


def _each(items: tuple[Item, ...], change: Callable[[Item], Item]) -> tuple[Item, ...]:
    """Every item changed; the same tuple when all stayed as they were."""
    made = tuple(map(change, items))
    return items if all(map(is_, made, items)) else made


def _classes(classes: tuple[ir.Class, ...], rewrite: Rewrite) -> tuple[ir.Class, ...]:
    def changed(item: ir.Class) -> ir.Class:
        when = None if item.when is None else bottom_up(item.when, rewrite)
        inner = _classes(item.classes, rewrite)
        return item if when is item.when and inner is item.classes else replace(item, when=when, classes=inner)

    return _each(classes, changed)
