"""Sets of integers as ascending, disjoint, non-adjacent inclusive ranges: the arithmetic behind fields, sets and header space."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable

from compiler.ir import Ranges


def normalize(ranges: Iterable[tuple[int, int]]) -> Ranges:
    """Sorted and merged: overlapping and adjacent ranges become one."""
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            if high > merged[-1][1]:
                merged[-1] = (merged[-1][0], high)
        else:
            merged.append((low, high))
    return tuple(merged)


def intersect(a: Ranges, b: Ranges) -> Ranges:
    """What is in both. The work grows with the shorter list and the result, so a small region meets a large set cheaply."""
    if len(a) > len(b):
        a, b = b, a
    found = []
    for low, high in a:
        at = bisect_left(b, low, key=_high)
        while at < len(b) and b[at][0] <= high:
            found.append((max(low, b[at][0]), min(high, b[at][1])))
            at += 1
    return tuple(found)


def meet(a: Ranges, b: Ranges) -> bool:
    """Whether anything is in both."""
    if len(a) > len(b):
        a, b = b, a
    for low, high in a:
        at = bisect_left(b, low, key=_high)
        if at < len(b) and b[at][0] <= high:
            return True
    return False


def subtract(a: Ranges, b: Ranges) -> Ranges:
    """What is in `a` and not in `b`."""
    if len(a) > 16 * len(b):
        return _cut_out(a, b)
    left = []
    for low, high in a:
        at = bisect_left(b, low, key=_high)
        while at < len(b) and b[at][0] <= high:
            if b[at][0] > low:
                left.append((low, b[at][0] - 1))
            low = b[at][1] + 1
            at += 1
        if low <= high:
            left.append((low, high))
    return tuple(left)


def _cut_out(a: Ranges, b: Ranges) -> Ranges:
    """`subtract` of a few ranges from many: only those of `a` that are met are looked at."""
    left = list(a)
    for low, high in b:
        start = end = bisect_left(left, low, key=_high)
        while end < len(left) and left[end][0] <= high:
            end += 1
        if start < end:
            before, behind = (left[start][0], low - 1), (high + 1, left[end - 1][1])
            left[start:end] = [pair for pair in (before, behind) if pair[0] <= pair[1]]
    return tuple(left)


def contains(ranges: Ranges, value: int) -> bool:
    at = bisect_left(ranges, value, key=_high)
    return at < len(ranges) and ranges[at][0] <= value


def from_bits(mask: int, value: int, width: int) -> Ranges:
    """The numbers of `width` bits (at most 8 or so) whose bits under `mask` are `value`."""
    return normalize((n, n) for n in range(1 << width) if n & mask == value)


def _high(pair: tuple[int, int]) -> int:
    return pair[1]
