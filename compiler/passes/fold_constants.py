"""Constants folded and nested And, Or, Not made flat, by Kleene's laws: `false and absent` is false, `true or absent` is true.

Whether a control packet is judged by a rule hangs on the kinds that its expression *names* (docs/packet-model.md), so nothing
that names one outside `not` is folded away, and no double negation of one.
"""

from __future__ import annotations

from compiler import ir
from compiler.diagnostics import Diagnostic
from compiler.passes.rewrite import apart, every_expression


def run(program: ir.Program) -> tuple[ir.Program, list[Diagnostic]]:
    """The program with every expression folded; it finds nothing to tell."""
    return every_expression(program, fold), []


def fold(expr: ir.Expr) -> ir.Expr:
    """One node whose children are folded."""
    match expr:
        case ir.Not(ir.Const(value)):
            return ir.Const(not value)
        case ir.Not(ir.Not(item)) if not _names_control(item):
            return item
        case ir.And(items) if not (len(items) > 1 and apart(items)):
            return _joined(ir.And, items, decisive=False)
        case ir.Or(items) if not (len(items) > 1 and apart(items)):
            return _joined(ir.Or, items, decisive=True)
        case _:
            return expr


def _joined(kind: type[ir.And | ir.Or], items: tuple[ir.Expr, ...], *, decisive: bool) -> ir.Expr:
    flat: list[ir.Expr] = []
    for item in items:
        flat += item.items if isinstance(item, kind) else (item,)
    neutral = ir.Const(not decisive)
    kept = [item for item in dict.fromkeys(flat) if item != neutral]
    if ir.Const(decisive) in kept and (not decisive or not any(map(_names_control, kept))):
        return ir.Const(decisive)
    if not kept:
        return neutral
    return kept[0] if len(kept) == 1 else kind(tuple(kept))


def _names_control(expr: ir.Expr) -> bool:
    """Whether a control kind is named anywhere, also under `not`."""
    match expr:
        case ir.Is(kind):
            return kind in ir.CONTROL_KINDS
        case ir.Not(item):
            return _names_control(item)
        case ir.And(items) | ir.Or(items):
            return any(map(_names_control, items))
        case _:
            return False
