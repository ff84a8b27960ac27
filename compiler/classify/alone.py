"""Rules that ask for one address and nothing else: what an address answers is the first rule whose values it lies in, and no row of bits is needed.

Over the intervals of the field, the rules' ranges are painted on top of each other; where several overlap the first rule stays. However many sets
overlap however often, the field has no more classes than rules.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from compiler.classify.buckets import Side
from compiler.classify.shape import NOTHING
from compiler.classify.sweep import I64, Keys


def answers(side: Side, record: I64) -> tuple[tuple[Keys, ...], I64, npt.NDArray[np.uint32]]:
    """Where intervals begin, the class of each, and the record that each class answers with; class 0 is that of a packet without an address.

    Intervals beside each other that answer the same are one.
    """
    partition = side.partition
    of_atom = np.full(side.atoms, NOTHING, np.int64)
    asking = side.wishes >= 0
    np.minimum.at(of_atom, side.wishes[asking], record[asking])
    of_all = int(record[~asking].min(initial=NOTHING))  # rules that ask for nothing
    painted = np.minimum(_painted(partition.intervals, partition.first, partition.last, of_atom[partition.atom]), of_all)
    begins = np.cumsum([0, *map(len, partition.keys)])[:-1]
    fresh = np.concatenate([[True], painted[1:] != painted[:-1]])
    fresh[begins] = True
    keys = tuple(part[fresh[begin : begin + len(part)]] for begin, part in zip(begins, partition.keys, strict=True))
    found, classes = np.unique(painted[fresh], return_inverse=True)
    return keys, classes + 1, np.concatenate([[of_all], found]).astype("<u4")


def _painted(places: int, first: I64, last: I64, value: I64) -> I64:
    """At each place the least value of the ranges over it. A range is two overlapping ones of the same power-of-two length; the long ones are
    handed down to their halves."""
    level = np.frexp(last - first + 1)[1] - 1
    top = int(level.max(initial=0))
    found = np.full(places, NOTHING, np.int64)
    for height in range(top, -1, -1):
        if height < top:
            half = 1 << height
            found[half:] = np.minimum(found[half:], found[:-half])
        here = level == height
        np.minimum.at(found, first[here], value[here])
        np.minimum.at(found, last[here] - (1 << height) + 1, value[here])
    return found
