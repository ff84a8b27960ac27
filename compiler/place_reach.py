"""Whether a steered packet can leave before its filter has judged it: exact for whole packets, cautious for malformed ones."""

from __future__ import annotations

from compiler import ir, ranges
from compiler.placed import ChainPlacement
from compiler.space import Space, whole_shapes


def may_be_undecided(when: ir.Expr, placed: ChainPlacement, space: Space) -> str:
    """Words for a packet that matches `when` and that the early rules leave to the late ones; "" when there is none."""
    early = [rule for rule in placed.chain.rules[: placed.split] if rule.limit is None]
    for shape in whole_shapes():
        region = space.may(when, shape) if shape.kinds & {"ip4", "ip6"} else None
        for rule in early:
            if not region:
                break
            region = region.subtract(space.must(rule.when, shape))
        if region:
            return f"for example {shape.name}"
    malformed = [*conjuncts(when), ir.Is("malformed")]
    if not any(implied(rule.when, malformed) for rule in early):
        return "for example a malformed one"
    return ""


def conjuncts(when: ir.Expr) -> list[ir.Expr]:
    """What is surely true when `when` is."""
    if isinstance(when, ir.And):
        return [part for item in when.items for part in conjuncts(item)]
    return [when]


def implied(when: ir.Expr, known: list[ir.Expr]) -> bool:
    """True only if `when` is true for every packet for which all of `known` are. Sound, not complete."""
    if ir.Is("malformed") in known and ir.Not(ir.Is("malformed")) in known or when in known:
        return True
    match when:
        case ir.Const(value):
            return value
        case ir.And(items):
            return all(implied(item, known) for item in items)
        case ir.Or(items):
            return any(implied(item, known) for item in items)
        case ir.Within(field, wanted):
            return any(isinstance(k, ir.Within) and k.field == field and not ranges.subtract(k.ranges, wanted) for k in known)
    return False
