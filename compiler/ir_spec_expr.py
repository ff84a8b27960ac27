"""What a legal expression, range list and set is: the part of the legality check that speaks of values. See ir_spec.py."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from compiler import ir

MAX_DEPTH = 64
DOMAIN = {"address": ir.V4_LAST, "port": 65535}
FIELD_OF_SET = {"address": (ir.Field.SRC, ir.Field.DST), "port": (ir.Field.SPORT, ir.Field.DPORT)}


def check_expr(expr: ir.Expr, sets: Mapping[str, ir.Set], legal: set[int] | None = None) -> Iterator[str]:
    """Everything that is illegal in an expression. Walks with a stack of its own: a hostile depth is a finding, not a crash.

    legal: ids of tests that were found legal before and live on; rules share theirs.
    """
    legal = set() if legal is None else legal
    pending = [(expr, 1)]
    while pending:
        item, depth = pending.pop()
        if depth > MAX_DEPTH:
            yield f"the expression nests deeper than {MAX_DEPTH}"
            return
        match item:
            case ir.Not(inner):
                pending.append((inner, depth + 1))
            case ir.And(items) | ir.Or(items):
                if not items:
                    yield f"an {type(item).__name__} has no items"
                pending += [(inner, depth + 1) for inner in items]
            case _ if id(item) not in legal:
                faults = list(_leaf(item, sets))
                yield from faults
                if not faults:
                    legal.add(id(item))


def _leaf(item: ir.Expr, sets: Mapping[str, ir.Set]) -> Iterator[str]:
    match item:
        case ir.Is(kind) if kind not in ir.KINDS:
            yield f"Is: `{kind}` is no kind"
        case ir.Within(field, ranges):
            if not ranges:
                yield f"Within {field} has no ranges"
            yield from (f"Within {field}: {fault}" for fault in check_ranges(ranges, highest(field)))
        case ir.Bits(field, mask, value):
            if field is not ir.Field.TCP_FLAGS:
                yield f"Bits tests {field}; only tcp.flags has bits"
            if not 0 < mask <= 255 or value & ~mask or value < 0:
                yield f"Bits: value {value} under mask {mask} can never be"
        case ir.Member(field, name):
            if name not in sets:
                yield f"Member: there is no set `{name}`"
            elif field not in FIELD_OF_SET.get(sets[name].type, ()):
                yield f"Member: {field} cannot be in `{name}`, a set of type {sets[name].type}"
        case ir.Connection(states) if (
            not states or set(states) - set(ir.CONNECTION_STATES) or len(set(states)) < len(states)
        ):
            yield f"Connection: {', '.join(states) or 'nothing'} is no list of different connection states"


def highest(field: ir.Field) -> int:
    """The greatest value that a field can have."""
    return ir.V4_LAST if field in FIELD_OF_SET["address"] else (1 << ir.FIELD_BITS[field]) - 1


def check_ranges(ranges: ir.Ranges, last: int) -> Iterator[str]:
    """Ranges are inside 0..last, ascending, disjoint and not adjacent (the border between IPv6 and IPv4 may stay a border)."""
    before = -2
    for first, end in ranges:
        if not 0 <= first <= end <= last:
            yield f"{first}..{end} is no range inside 0..{last}"
        elif first <= before or (first == before + 1 and first != ir.V4_BASE):
            yield f"{first}..{end} overlaps, touches or precedes the range before it"
        before = max(before, end)


def check_set(item: ir.Set, sets: Mapping[str, ir.Set]) -> Iterator[str]:
    """Everything that is illegal in one set."""
    if item.type not in DOMAIN:
        yield f"`{item.type}` is no type of sets"
        return
    yield from check_ranges(item.ranges, DOMAIN[item.type])
    if item.full not in ("keep", "evict"):
        yield f"full is keep or evict, not `{item.full}`"
    if item.timeout is not None and item.timeout < 1:
        yield f"a timeout of {item.timeout} ns"
    if item.size is None:
        if item.timeout is not None or item.never or item.full != "keep":
            yield "a static set has no timeout, never or full"
        return
    if item.size < 1:
        yield f"a size of {item.size}"
    if item.ranges:
        yield "a dynamic set begins empty"
    for name in item.never:
        if name not in sets:
            yield f"never: there is no set `{name}`"
        elif sets[name].type != item.type or name == item.name:
            yield f"never: `{name}` is the set itself or of another type"
