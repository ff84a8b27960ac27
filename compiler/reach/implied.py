"""Whether a condition says, word for word, at least what another says: then it is true wherever the other is, of any packet in any state."""

from __future__ import annotations

from compiler import ir, ranges


def follows(wide: ir.Expr, narrow: ir.Expr) -> bool:
    """Whether each part of `wide` stands in `narrow` or follows from a part of it. Quick; False where it is not plain."""
    given = narrow.items if isinstance(narrow, ir.And) else (narrow,)
    return all(any(part is known or part == known or _wider(part, known) for known in given) for part in _parts(wide))


def _parts(expr: ir.Expr) -> tuple[ir.Expr, ...]:
    if isinstance(expr, ir.Const) and expr.value:
        return ()
    return expr.items if isinstance(expr, ir.And) else (expr,)


def _wider(wide: ir.Expr, narrow: ir.Expr) -> bool:
    if not (isinstance(wide, ir.Within) and isinstance(narrow, ir.Within)) or wide.field is not narrow.field:
        return isinstance(wide, ir.Or) and any(part == narrow or _wider(part, narrow) for part in wide.items)
    if len(wide.ranges) == 1:
        return bool(narrow.ranges) and wide.ranges[0][0] <= narrow.ranges[0][0] and narrow.ranges[-1][1] <= wide.ranges[0][1]
    return not ranges.subtract(narrow.ranges, wide.ranges)
