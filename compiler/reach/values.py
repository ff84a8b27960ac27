"""Which value stands for many: one that other rules hardly ask for shows soonest that a rule is reached."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from random import Random

from compiler import ir, ranges
from compiler.ir import Field
from compiler.space import Region, Shape

MOST_RANGES = 512  # of a set: larger ones are not cut into pieces
Values = dict[int, int]  # by id(field): hashing an Enum is slow
_NEVER_CONTROL = {Field.ICMP_TYPE: ((130, 143),), Field.ETHERTYPE: ((0, 1535), (0x8809, 0x8809), (0x888E, 0x888E), (0x88CC, 0x88CC))}


def some_value(wanted: ir.Ranges, allowed: ir.Ranges) -> int | None:
    """One of the first range that is in both, off its ends, where other ranges are likelier to begin."""
    for low, high in wanted if allowed else ():
        for first, last in allowed:
            if low <= last and first <= high:
                low, high = max(low, first), min(high, last)
                return low if low == high else low + (high - low) * 5 // 8
    return None


@cache
def matching(name: Field, mask: int, value: int, want: bool) -> ir.Ranges:
    """The values whose bits under the mask are these, or are not."""
    found = ranges.from_bits(mask, value, ir.FIELD_BITS[name])
    return found if want else ranges.subtract(((0, (1 << ir.FIELD_BITS[name]) - 1),), found)


def plain(item: ir.Expr, sets: Mapping[str, ir.Set]) -> bool:
    """Whether it is a test of one field, or `not` one, that hangs on no state and is not the complement of very many ranges."""
    inner = item.item if isinstance(item, ir.Not) else item
    if isinstance(inner, ir.Member):
        return sets[inner.set].size is None and (inner is item or len(sets[inner.set].ranges) <= MOST_RANGES)
    return isinstance(inner, ir.Within | ir.Bits)


def tested(item: ir.Expr, sets: Mapping[str, ir.Set]) -> tuple[Field, ir.Ranges]:
    """The field of a plain test, or of `not` one, and the values for which it is true."""
    if isinstance(item, ir.Not):
        if isinstance(item.item, ir.Bits):
            return item.item.field, matching(item.item.field, item.item.mask, item.item.value, False)
        name, excluded = tested(item.item, sets)
        return name, ranges.subtract(((0, (1 << ir.FIELD_BITS[name]) - 1),), excluded)
    if isinstance(item, ir.Bits):
        return item.field, matching(item.field, item.mask, item.value, True)
    assert isinstance(item, ir.Within | ir.Member), f"{item} is no plain test"
    return item.field, item.ranges if isinstance(item, ir.Within) else sets[item.set].ranges


def usual(shapes: Sequence[Shape], tests: Iterable[ir.Expr], fields: set[Field]) -> list[Values]:
    """For each shape, and each of these fields that it has, a value that few tests ask for and that makes no control packet."""
    asked: dict[int, list[tuple[int, int]]] = {id(name): [] for name in fields}
    for item in tests:
        if isinstance(item, ir.Within) and item.ranges[-1][1] - item.ranges[0][0] < (1 << ir.FIELD_BITS[item.field]) >> 4:
            asked[id(item.field)] += item.ranges
    busy = {name: ranges.normalize(asked[id(name)]) for name in fields}
    return [{id(name): _free(shape.values(name), busy[name], name) for name in fields if shape.values(name)} for shape in shapes]


def _free(allowed: ir.Ranges, busy: ir.Ranges, name: Field) -> int:
    allowed = ranges.subtract(allowed, _NEVER_CONTROL.get(name, ())) or allowed
    left = ranges.subtract(allowed, busy) or allowed
    low, high = max(left, key=lambda pair: pair[1] - pair[0])
    return low + (high - low) * 5 // 8


def inside(region: Region, fields: set[Field], most: int) -> list[Values]:
    """At most so many packets of the region, these fields of them: the ends of its boxes, and then some between."""
    found: list[Values] = []
    domain = [(name, values) for name, values in region.shape.domain if name in fields]
    rng = Random(0)
    for number in range(most if region.boxes else 0):
        round_, at = divmod(number, len(region.boxes))
        box = region.boxes[at]
        found.append({id(name): _value(box.get(name, values), round_, rng) for name, values in domain})
    return found


def _value(allowed: ir.Ranges, round_: int, rng: Random) -> int:
    if round_ < 2:
        return allowed[-round_][round_]
    low, high = allowed[int(rng.random() * len(allowed))]
    return low + (high - low) * rng.getrandbits(16) // 0xFFFF
