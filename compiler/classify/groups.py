"""Groups of fields: the classes of several fields joined into one by a cross-product table, as far as it fits (Gupta and McKeown, RFC, SIGCOMM 1999).

A combination is what one term asks of the group's fields together. Joining works on combinations, of which there are far fewer than terms.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from compiler.classify.sweep import I64, Classes, spread

MAX_PRODUCT = 1 << 16  # entries of a cross-product table
_SLICE = 1 << 22  # bytes or bits worked on at a time, so that what a table takes is itself and little more
MAX_JOINED = 4096  # classes: their rows should stay in a cache
Packed = npt.NDArray[np.uint64]
Wish = TypeVar("Wish", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Group:
    """name: of the field, or the names joined. combination[term]; members[class]: the combinations that are met, packed into words.
    left, right, table: what it was joined from; table[left class, right class] is the class of both."""

    name: str
    combination: I64
    members: Packed
    left: Group | None = None
    right: Group | None = None
    table: I64 | None = None

    @property
    def size(self) -> int:
        return len(self.members)


def of_field(name: str, wishes: I64, classes: Classes) -> Group:
    """wishes[term]: the atom that it asks for, or -1 for none: met by every class."""
    combination = wishes + 1
    words = np.zeros((classes.count, classes_words(int(combination.max(initial=0)) + 1)), np.uint64)
    words[:, 0] = 1
    set_bits(words, classes.covered, classes.atom + 1)
    return Group(name, combination, words)


def classes_words(bits: int) -> int:
    return (bits + 63) // 64


def set_bits(words: Packed, row: I64, bit: I64) -> None:
    for at in range(0, len(row), _SLICE):  # what is computed for a slice is gone before the next
        rows_, bits = row[at : at + _SLICE], bit[at : at + _SLICE]
        np.bitwise_or.at(words, (rows_, bits >> 6), np.uint64(1) << (bits & 63).astype(np.uint64))


def join(groups: Sequence[Group], most: int = MAX_JOINED, product: int = MAX_PRODUCT) -> list[Group]:
    """Join the two smallest again and again while the table and the classes that come of it fit."""
    left = sorted(groups, key=lambda group: group.size)
    while len(left) > 1 and left[0].size * left[1].size <= product:
        joined = _joined(left[0], left[1])
        if joined.size > most:
            break
        left = sorted([*left[2:], joined], key=lambda group: group.size)
    return left


def rows(group: Group, terms: int) -> Packed:
    """rows[class]: the terms whose wishes for the group's fields are met, packed into words."""
    order = np.argsort(group.combination, kind="stable")
    count = np.bincount(group.combination, minlength=64 * group.members.shape[1])
    first = np.cumsum(count) - count
    found = np.zeros((group.size, classes_words(terms)), np.uint64)
    everywhere = np.bitwise_and.reduce(group.members, axis=0)
    of_all = bits_of(everywhere[None, :])[1]
    line = np.zeros((1, found.shape[1]), np.uint64)
    met = order[spread(first[of_all], count[of_all])]
    set_bits(line, np.zeros_like(met), met)
    found |= line
    step = max(1, _SLICE // max(1, terms))
    for start in range(0, group.size, step):
        row, combination = bits_of(group.members[start : start + step] & ~everywhere)
        set_bits(found, np.repeat(row + start, count[combination]), order[spread(first[combination], count[combination])])
    return found


def bits_of(words: Packed) -> tuple[I64, I64]:
    """Row and number of every bit that is set."""
    row, column = np.nonzero(words)
    bits = np.unpackbits(np.ascontiguousarray(words[row, column]).view(np.uint8).reshape(-1, 8), axis=1, bitorder="little")
    at, bit = np.nonzero(bits)
    return row[at], column[at] * 64 + bit


def _joined(a: Group, b: Group) -> Group:
    width = 64 * b.members.shape[1]
    pairs, combination = np.unique(a.combination * width + b.combination, return_inverse=True)
    left, right = np.divmod(pairs, width)
    members, kind = distinct_pairs(_columns(a.members, left), _columns(b.members, right))
    return Group(f"{a.name}+{b.name}", combination, members, a, b, kind.reshape(a.size, b.size))


def _columns(words: Packed, wanted: I64) -> Packed:
    """The wanted bits of every row, in this order."""
    bits = np.unpackbits(words.view(np.uint8), axis=1, bitorder="little")[:, wanted]
    packed = np.packbits(bits, axis=1, bitorder="little")
    whole = np.zeros((len(words), 8 * classes_words(len(wanted))), np.uint8)
    whole[:, : packed.shape[1]] = packed
    return whole.view(np.uint64)


def part_of(group: Group, terms: npt.NDArray[np.bool_], name: str) -> Group:
    """The same classes, for some of the terms, as if they were a field's."""
    return Group(name, group.combination[terms], group.members)


def distinct_pairs(ours: Packed, theirs: Packed) -> tuple[Packed, I64]:
    """Every one of our rows and-ed with every one of theirs: one row of each kind, and the kind of every pair. By 64-bit sums, whose kinds are then
    compared whole. A slice at a time: a million pairs of 2 KiB each would take gigabytes."""
    odd = np.random.default_rng(0).integers(0, 1 << 63, ours.shape[1], dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    step = max(1, _SLICE // max(1, theirs.nbytes))
    starts = range(0, len(ours), step)

    def both(start: int) -> Packed:
        return (ours[start : start + step, None, :] & theirs[None, :, :]).reshape(-1, ours.shape[1])

    sums = np.concatenate([((part ^ (part >> np.uint64(29))) * odd).sum(axis=1, dtype=np.uint64) for part in map(both, starts)])
    _, first, kind = np.unique(sums, return_index=True, return_inverse=True)
    left, right = np.divmod(first, len(theirs))
    found = ours[left] & theirs[right]
    for start in starts:
        part = both(start)
        at = start * len(theirs)
        if (found[kind[at : at + len(part)]] != part).any():
            raise AssertionError("two rows have one sum")
    return found, kind


def numbered(wanted: Iterable[Wish | None]) -> tuple[list[Wish], I64]:
    """The different wishes in order of appearance, and each one's number; None is -1."""
    known: dict[Wish, int] = {}
    numbers = [-1 if wish is None else known.setdefault(wish, len(known)) for wish in wanted]
    return list(known), np.array(numbers, np.int64)
