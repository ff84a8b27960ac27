"""Terms filed under the one address that narrows them down: each class of a source (or destination) has the short list of its terms.

Most rules of large policies name a narrow source or a narrow destination. Such a term is filed on the side where fewer others are; what is
left to ask, the other address and the service, stands in the list's entry. Broad terms, which would be in too many lists, are not filed.
(Compare the field-dependent subsets of CutSplit, Li et al., INFOCOM 2018.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from compiler.classify import sweep
from compiler.classify.sweep import I64, Partition, spread

BROAD = 2  # neither side
MAX_BUCKET = 64  # entries
_BROAD_SHARE = 0.03  # of a side's intervals
_BROAD_LEAST = 8
_ROUNDS = 6
EVERYTHING = 0xFFFFFFFF
Bool = npt.NDArray[np.bool_]
T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, slots=True)
class Side:
    """Sources or destinations. wishes[term]: the atom it asks for, -1 for none."""

    partition: Partition
    wishes: I64

    @property
    def atoms(self) -> int:
        return int(max(self.wishes.max(initial=-1), self.partition.atom.max(initial=-1))) + 1


@dataclass(frozen=True, slots=True)
class Buckets:
    """entries: rows of (record, first interval of the other side, how many follow, combination), ascending by record in each bucket;
    bucket[interval] is (first entry, number of entries)."""

    entries: npt.NDArray[np.uint32]
    start: I64
    count: I64


def divide(sides: Sequence[Side]) -> I64:
    """For each term the number of the side under which it is filed, or BROAD."""
    narrow = [_narrow(side) for side in sides]
    one_run = [_of_terms(_runs(side)[2], side, True) for side in sides]
    can = np.array([narrow[at] & one_run[1 - at] for at in (0, 1)])
    crowd = np.array([np.where(can[at], _crowd(sides[at], can[at]), np.inf) for at in (0, 1)])
    side = np.where(can.any(axis=0), np.argmin(crowd, axis=0), BROAD)
    for seed in range(_ROUNDS):
        crowd = np.array([np.where(can[at], _crowd(sides[at], side == at) + (side != at), np.inf) for at in (0, 1)])
        filed = side != BROAD
        here = np.where(filed, side, 0)
        better = filed & (np.take_along_axis(crowd, 1 - here[None], 0)[0] < np.take_along_axis(crowd, here[None], 0)[0] - 1)
        side = np.where(better & (np.random.default_rng(seed).random(len(side)) < 0.5), 1 - side, side)
    for at in (0, 1):
        side[(side == at) & (_crowd(sides[at], side == at) > MAX_BUCKET)] = BROAD
    return side


def fill(own: Side, other: Side, filed: Bool, records: I64, combination: I64) -> Buckets:
    """The buckets of one side."""
    wanted = np.zeros(own.atoms, bool)
    wanted[own.wishes[filed]] = True
    classes = sweep.classes(own.partition, wanted)
    terms = np.flatnonzero(filed)
    by_atom = terms[np.argsort(own.wishes[terms], kind="stable")]
    many = np.bincount(own.wishes[terms], minlength=own.atoms)
    first = np.cumsum(many) - many
    bucket = np.repeat(classes.covered, many[classes.atom])
    term = by_atom[spread(first[classes.atom], many[classes.atom])]
    order = np.lexsort((records[term], bucket))
    bucket, term = bucket[order], term[order]
    low, high = (_of_terms(column, other, default) for column, default in zip(_runs(other)[:2], (0, EVERYTHING), strict=True))
    entries = np.stack([records[term], low[term], high[term] - low[term], combination[term]], axis=1).astype("<u4")
    count = np.bincount(bucket, minlength=classes.count)
    start = np.cumsum(count) - count
    return Buckets(entries, start[classes.of_interval], count[classes.of_interval])


def _narrow(side: Side) -> Bool:
    size = np.bincount(side.partition.atom, side.partition.last - side.partition.first + 1, side.atoms)
    return _of_terms(size <= max(_BROAD_LEAST, _BROAD_SHARE * side.partition.intervals), side, False)


def _runs(side: Side) -> tuple[I64, I64, Bool]:
    """Of every atom the first and the last interval, and whether it is all between them."""
    partition = side.partition
    first, last = np.full(side.atoms, partition.intervals), np.full(side.atoms, -1)
    np.minimum.at(first, partition.atom, partition.first)
    np.maximum.at(last, partition.atom, partition.last)
    size = np.bincount(partition.atom, partition.last - partition.first + 1, side.atoms)
    return first, last, last - first + 1 == size


def _of_terms(of_atoms: npt.NDArray[T], side: Side, default: object) -> npt.NDArray[T]:
    """The value of each term's atom; `default` for a term without."""
    return np.append(of_atoms, np.array([default], of_atoms.dtype))[side.wishes]


def _crowd(side: Side, filed: Bool) -> npt.NDArray[np.float64]:
    """For each term the longest list that it would be in, among the terms that are filed here."""
    partition = side.partition
    terms = np.bincount(side.wishes[filed & (side.wishes >= 0)], minlength=side.atoms)[partition.atom]
    steps = np.zeros(partition.intervals + 1, np.int64)
    np.add.at(steps, partition.first, terms)
    np.add.at(steps, partition.last + 1, -terms)
    length = np.cumsum(steps)
    longest = np.zeros(side.atoms)
    if len(partition.first):
        ends = np.stack([partition.first, partition.last + 1], axis=1).ravel()
        np.maximum.at(longest, partition.atom, np.maximum.reduceat(length, ends)[::2])
    return _of_terms(longest, side, np.inf)
