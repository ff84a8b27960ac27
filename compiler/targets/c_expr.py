"""Expressions → C conditions over `p` (prelude.h). Three values become two by pushing `not` down to the leaves.

`true_when(e)` is the condition under which e is *true*, `false_when(e)` under which it is *false*; absent is neither. A leaf is true
when its field is present and fits, false when it is present and does not fit (docs/packet-model.md, Judging; Kleene's logic).
"""

from __future__ import annotations

from compiler import ir
from compiler.targets import c_sets
from compiler.targets.c_program import CProgram, symbol

NEVER = "0"
ALWAYS = "1"
ADDRESSES = {ir.Field.SRC: "src", ir.Field.DST: "dst"}
_MAX_RANGES = 8  # a longer list of ports is looked up
MAX_ADDRESS_RANGES = 4
FIELDS = frozenset((*map(str, ir.Field), "kinds"))  # what tables call them
_LOOKED_UP = (ir.Field.SPORT, ir.Field.DPORT)
_NO_KINDS: frozenset[str] = frozenset()


def true_when(expr: ir.Expr, c: CProgram) -> str:
    """C condition: `expr` is true of *p."""
    return _lower(expr, c, True)


def false_when(expr: ir.Expr, c: CProgram) -> str:
    """C condition: `expr` is false of *p."""
    return _lower(expr, c, False)


def kinds_outside_not(expr: ir.Expr) -> frozenset[str]:
    """Every kind that the expression names outside `not`."""
    if isinstance(expr, ir.Is):
        return frozenset((expr.kind,))
    if isinstance(expr, ir.And | ir.Or):
        return _NO_KINDS.union(*map(kinds_outside_not, expr.items))
    return _NO_KINDS


def control_mask(expr: ir.Expr) -> str:
    """C mask of the control kinds that the expression names outside `not`; "" for none."""
    named = kinds_outside_not(expr)  # of ten thousand rules hardly one names any
    return " | ".join(f"KIND_{kind}" for kind in ir.CONTROL_KINDS if kind in named) if named else ""


def _lower(expr: ir.Expr, c: CProgram, wanted: bool) -> str:
    match expr:
        case ir.Const(value):
            return ALWAYS if value == wanted else NEVER
        case ir.Is(kind):
            return f"{'' if wanted else '!'}(p->kinds & KIND_{symbol(kind)})"
        case ir.Within(field, ranges):
            return _literal(field, ranges, c, wanted)
        case ir.Member(field, name):
            known = c.sets[name]
            return _literal(field, known.ranges, c, wanted) if known.size is None else _dynamic(field, known, c, wanted)
        case ir.Bits(field, mask, value):
            return _join("&&", [_present(field), f"(p->{symbol(field)} & {mask}) {'==' if wanted else '!='} {value}"])
        case ir.Connection():
            return NEVER  # absent in every BPF program
        case ir.Not(item):
            return _lower(item, c, not wanted)
        case ir.And(items):
            return _join("&&" if wanted else "||", [_lower(item, c, wanted) for item in items])
        case ir.Or(items):
            return _join("||" if wanted else "&&", [_lower(item, c, wanted) for item in items])
    raise AssertionError(f"no lowering for {expr!r}")


def _join(operator: str, parts: list[str]) -> str:
    """The parts joined, with constants folded: an empty `&&` is 1, an empty `||` is 0."""
    neutral, absorbing = (ALWAYS, NEVER) if operator == "&&" else (NEVER, ALWAYS)
    if absorbing in parts:
        return absorbing
    kept = [part for part in parts if part != neutral]
    if not kept:
        return neutral
    return kept[0] if len(kept) == 1 else "(" + f" {operator} ".join(kept) + ")"


def _present(field: ir.Field) -> str:
    return f"(p->have & HAVE_{symbol(field)})"


def _negate(condition: str) -> str:
    return {NEVER: ALWAYS, ALWAYS: NEVER}.get(condition) or f"!{condition}"


def _literal(field: ir.Field, ranges: ir.Ranges, c: CProgram, wanted: bool) -> str:
    if field in ADDRESSES:
        return _address(ADDRESSES[field], ranges, c, wanted)
    if field in _LOOKED_UP and len(ranges) > _MAX_RANGES:
        inside = c_sets.port_lookup(c, f"p->{symbol(field)}", ranges)
    else:
        inside = _in_ranges(f"p->{symbol(field)}", ranges, ir.FIELD_BITS[field])
    return _join("&&", [_present(field), inside if wanted else _negate(inside)])


def _in_ranges(value: str, ranges: ir.Ranges, bits: int) -> str:
    """In one of them; memory is read once, however many they are."""
    inside = _join("||", [_in_range("v" if len(ranges) > 1 else value, low, high, bits) for low, high in ranges])
    return f"({{ {'u64' if bits > 32 else 'u32'} v = {value}; {inside}; }})" if len(ranges) > 1 and inside != ALWAYS else inside


def _in_range(value: str, low: int, high: int, bits: int) -> str:
    """One reading of `value`, one comparison: an unsigned distance from `low`. Whole domains and single values are simpler."""
    if low == 0 and high >= (1 << bits) - 1:
        return ALWAYS
    kind, suffix = ("u64", "ULL") if bits > 32 else ("u32", "u")
    if low == high:
        return f"({value} == {low}{suffix})"
    if low == 0:
        return f"({value} <= {high}{suffix})"
    return f"(({kind})({value} - {low}{suffix}) <= {high - low}{suffix})"


def _address(name: str, ranges: ir.Ranges, c: CProgram, wanted: bool) -> str:
    if len(ranges) > MAX_ADDRESS_RANGES:
        inside = c_sets.address_lookup(c, name, ranges)
        return _join("&&", [f"p->{name}.at.family", inside if wanted else _negate(inside)])
    v4, v6 = c_sets.by_family(ranges)
    inside4 = _in_ranges(f"p->{name}_lo", v4, 32)
    inside6 = _join("||", [_in_range6(name, low, high) for low, high in v6])
    families = [
        _join("&&", [f"p->{name}.at.family == {family}", inside if wanted else _negate(inside)])
        for family, inside in ((4, inside4), (6, inside6))
    ]
    return _join("||", families)


def _in_range6(name: str, low: int, high: int) -> str:
    """A range of 128 bits in two words; only the upper one where the range ends on its boundary (prefixes up to /64)."""
    low_hi, low_lo = divmod(low, 1 << 64)
    high_hi, high_lo = divmod(high, 1 << 64)
    hi, lo = f"p->{name}_hi", f"p->{name}_lo"
    if low_lo == 0 and high_lo == (1 << 64) - 1:
        return _in_range(hi, low_hi, high_hi, 64)
    if low_hi == high_hi:
        return _join("&&", [_in_range(hi, low_hi, low_hi, 64), _in_range(lo, low_lo, high_lo, 64)])
    above = f"({hi} > {low_hi}ULL || ({hi} == {low_hi}ULL && {lo} >= {low_lo}ULL))"
    below = f"({hi} < {high_hi}ULL || ({hi} == {high_hi}ULL && {lo} <= {high_lo}ULL))"
    return f"({above} && {below})"


def _dynamic(field: ir.Field, known: ir.Set, c: CProgram, wanted: bool) -> str:
    name = ADDRESSES[field]
    map_, _ = c_sets.dynamic_set(c, known)
    inside = f"netc_live(MAP({map_}), &p->{name}.at, p->now, p->change)"
    return _join("&&", [f"p->{name}.at.family", inside if wanted else _negate(inside)])
