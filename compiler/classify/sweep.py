"""A field cut into intervals at every place where one of its atoms begins or ends, and intervals into equivalence classes.

An atom is one set of values that terms ask of the field. Every atom gets a random 64-bit number; walking over the field from the lowest value
to the highest and XORing in what begins and what ends gives each interval the signature of the atoms that cover it: equal signatures, one
class. A second, independent signature must agree within every class, so that a collision (2**-64 a pair) is found, and tried again with other
numbers, instead of believed.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from operator import itemgetter

import numpy as np
import numpy.typing as npt

from compiler import ir
from compiler.classify.shape import TooLarge
from compiler.ir import Ranges

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
Keys = npt.NDArray[np.uint8]  # ascending big-endian starts of intervals (n, bytes), the first of which is zero
MAX_COVERED = 1 << 25  # pairs of a class and an atom that covers it: half a GiB
_TRIES = 8
_FIRST, _LAST = itemgetter(0), itemgetter(1)
_LOWER = (1 << 64) - 1
_ONE_OF = [sum(1 << ir.KINDS.index(kind) for kind in names) for names in (("ip4", "ip6", "arp", "l2"), ("tcp", "udp", "sctp", "icmp4", "icmp6"))]


@dataclass(frozen=True, slots=True)
class Partition:
    """keys: of each part of the field, whose intervals are numbered through. Every range of every atom: intervals first..last of `atom`."""

    keys: tuple[Keys, ...]
    first: I64
    last: I64
    atom: I64

    @property
    def intervals(self) -> int:
        return sum(map(len, self.keys))


@dataclass(frozen=True, slots=True)
class Classes:
    """The class of every interval; how many classes there are; as two parallel arrays which atoms each of them lies in. Class 0 is that of no
    atom, which a packet without the field has."""

    of_interval: I64
    count: int
    covered: I64
    atom: I64


NO_CLASSES = Classes(np.zeros(0, np.int64), 1, np.zeros(0, np.int64), np.zeros(0, np.int64))  # of a field that nothing asks for


def numbers(atoms: Sequence[Ranges], bits: int) -> Partition:
    """A field of at most 32 bits."""
    return _joined([_part(atoms, 0, (1 << bits) - 1, 32)])


def addresses(atoms: Sequence[Ranges]) -> Partition:
    """IPv6, then IPv4, as in the order of ordinals."""
    return _joined([_part(atoms, 0, ir.V4_BASE - 1, 128), _part(atoms, ir.V4_BASE, ir.V4_LAST, 32)])


def classes(partition: Partition, wanted: npt.NDArray[np.bool_]) -> Classes:
    """Classes by the wanted atoms alone. Raises TooLarge."""
    of_wanted = wanted[partition.atom]
    first, last, atom = (column[of_wanted] for column in (partition.first, partition.last, partition.atom))
    for seed in range(_TRIES):
        random = np.random.default_rng(seed).integers(1, 1 << 63, (2, max(1, len(wanted))), dtype=np.uint64)
        try:
            of_interval, sample = _unique(*(_signatures(partition.intervals, first, last, row[atom]) for row in random))
        except ArithmeticError:
            continue
        order = np.argsort(sample)
        start = np.searchsorted(sample[order], first)
        many = np.searchsorted(sample[order], last, side="right") - start
        if many.sum() > MAX_COVERED:
            raise TooLarge(f"the ranges of one field overlap {many.sum()} times; {MAX_COVERED} are possible")
        return Classes(of_interval, len(sample) + 1, order[spread(start, many)] + 1, np.repeat(atom, many))
    raise AssertionError("signatures of 128 bits collide again and again")


def kinds(atoms: Sequence[tuple[int, int]]) -> Classes:
    """Classes of the 2**16 sets of kinds; atoms are (mask, kinds). A set that no packet has is of class 0."""
    values = np.arange(1 << len(ir.KINDS))
    possible = np.logical_and.reduce([np.bitwise_count(values & mask) <= 1 for mask in _ONE_OF])
    members = np.array([(values & mask == wanted) & possible for mask, wanted in atoms], dtype=bool).reshape(len(atoms), len(values))
    random = np.random.default_rng(0).integers(1, 1 << 63, (2, max(1, len(atoms))), dtype=np.uint64)
    first, second = (np.bitwise_xor.reduce(np.where(members, row[: len(atoms), None], np.uint64(0)), axis=0) for row in random)
    of_value, sample = _unique(first, second)
    atom, place = np.nonzero(members[:, sample])
    return Classes(of_value, len(sample) + 1, place + 1, atom)


def spread(first: I64, many: I64) -> I64:
    """first[0], first[0] + 1, ... (many[0] of them), first[1], ..."""
    return np.repeat(first - np.cumsum(many) + many, many) + np.arange(many.sum())


def _joined(parts: Sequence[Partition]) -> Partition:
    bases = np.cumsum([0, *(part.intervals for part in parts)])
    first, last = (np.concatenate([getattr(part, name) + base for part, base in zip(parts, bases, strict=False)]) for name in ("first", "last"))
    return Partition(tuple(key for part in parts for key in part.keys), first, last, np.concatenate([part.atom for part in parts]))


def _part(atoms: Sequence[Ranges], low: int, high: int, bits: int) -> Partition:
    """The atoms' ranges within low..high, as offsets from `low`."""
    lows, highs, many = _cut(atoms, low, high)
    room = high - low + 1
    parts = [_words([value - low for value in lows], bits), _words([(value + 1 - low) % room for value in highs], bits)]
    words = np.vstack([np.zeros((1, parts[0].shape[1]), np.uint64), *parts])
    order = np.lexsort(tuple(words[:, column] for column in reversed(range(words.shape[1]))))
    ordered = words[order]
    fresh = np.ones(len(words), bool)
    fresh[1:] = (ordered[1:] != ordered[:-1]).any(axis=1)
    interval = np.empty(len(words), np.int64)
    interval[order] = np.cumsum(fresh) - 1
    first, behind = interval[1 : len(lows) + 1], interval[len(lows) + 1 :]
    last = np.where(behind == 0, int(fresh.sum()), behind) - 1
    keys = ordered[fresh].astype(">u8" if bits == 128 else ">u4")
    return Partition((np.ascontiguousarray(keys).view(np.uint8).reshape(-1, bits // 8),), first, last, np.repeat(np.arange(len(atoms)), many))


def _cut(atoms: Sequence[Ranges], low: int, high: int) -> tuple[list[int], list[int], list[int]]:
    """The lowest and the highest values of all ranges, as far as they lie in low..high, and how many each atom has there."""
    lows: list[int] = []
    highs: list[int] = []
    many = []
    for ranges in atoms:
        begin = bisect_left(ranges, low, key=_LAST)
        inside = ranges[begin : bisect_right(ranges, high, lo=begin, key=_FIRST)]
        many.append(len(inside))
        if inside:
            lows += map(_FIRST, inside)
            highs += map(_LAST, inside)
            lows[-len(inside)] = max(inside[0][0], low)
            highs[-1] = min(inside[-1][1], high)
    return lows, highs, many


def _words(values: list[int], bits: int) -> U64:
    """Columns of 64 bits, the highest first."""
    if bits <= 64:
        return np.array(values, np.uint64).reshape(-1, 1)
    return np.array([[value >> 64 for value in values], [value & _LOWER for value in values]], np.uint64).T


def _signatures(intervals: int, first: I64, last: I64, random: U64) -> U64:
    steps = np.zeros(intervals + 1, np.uint64)
    np.bitwise_xor.at(steps, first, random)
    np.bitwise_xor.at(steps, last + 1, random)
    return np.bitwise_xor.accumulate(steps)[:-1]


def _unique(first: U64, second: U64) -> tuple[I64, I64]:
    """The class of each place, from 1 on but 0 for the empty signature, and a place of every class from 1 on. Raises ArithmeticError."""
    values, sample, inverse = np.unique(first, return_index=True, return_inverse=True)
    if (second[sample][inverse] != second).any():
        raise ArithmeticError("two classes have one signature")
    if len(values) and values[0] == 0:
        return inverse.astype(np.int64), sample[1:]
    return inverse.astype(np.int64) + 1, sample
