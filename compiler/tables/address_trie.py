"""Which interval an address lies in: a trie in an array, whose thin parts are runs that are searched.

The first 16 bits of an address index the root, each further byte a table of 256 entries. Where no more than RUN intervals begin, there is no
table but a search among their beginnings: sparse hosts would each need a table of their own, crowded prefixes a long search. (Multibit tries:
Srinivasan and Varghese, TOCS 1999; searched runs: DXR, Zec, Rizzo and Mikuc, CCR 2012.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    I64 = npt.NDArray[np.int64]
    U32 = npt.NDArray[np.uint32]
    Keys = npt.NDArray[np.uint8]  # ascending big-endian starts of intervals (n, bytes), the first zero

TABLE = 1 << 31  # an entry: this | number of a table's first entry in `tables`
RUN = 1 << 30  # this | how many begin here << RUN_BITS | the first of them; anything else is a leaf's value
RUN_BITS = 24
MAX_INTERVALS = 1 << RUN_BITS
MAX_VALUE = RUN - 1
_LONGEST = {4: 16, 16: 8}  # bytes of a key: beginnings in a run, a cache line of them


@dataclass(frozen=True, slots=True)
class Trie:
    """root: 2**16 entries; tables: of 256 entries each."""

    root: U32
    tables: U32


def build(keys: Keys, values: I64) -> Trie:
    """values: of each interval, where a leaf is all of one."""
    import numpy as np

    used = keys.shape[1] - np.argmax(np.flip(keys != 0, axis=1), axis=1)  # bytes of a key up to its last that is not zero
    used[~keys.any(axis=1)] = 0
    longest = _LONGEST[keys.shape[1]]
    first, last = _children(np.zeros(1, np.int64), np.array([len(keys) - 1]), keys, used, 0, 2)
    root, crowded = _entries(first, last, values, longest, 0)
    levels, depth, tables = [], 2, len(crowded[0])
    while len(crowded[0]):
        first, last = _children(*crowded, keys, used, depth, 1)
        entries, crowded = _entries(first, last, values, longest, tables)
        levels.append(entries)
        tables += len(crowded[0])
        depth += 1
    return Trie(root, np.concatenate([np.zeros(0, "<u4"), *levels]))


def _children(first: I64, last: I64, keys: Keys, used: I64, depth: int, width: int) -> tuple[I64, I64]:
    """The first and the last interval of every child; the parents cover first..last and have been walked down `depth` bytes."""
    import numpy as np

    fan = 1 << 8 * width
    many = last - first
    inside = np.repeat(first + 1 - np.cumsum(many) + many, many) + np.arange(many.sum())  # the keys that lie in each parent
    digit = keys[inside, depth].astype(np.int64)
    if width == 2:
        digit = digit << 8 | keys[inside, depth + 1]
    place = np.repeat(np.arange(len(first)), many) * fan + digit
    started = np.bincount(place, minlength=len(first) * fan).reshape(-1, fan)
    exact = np.bincount(place[used[inside] <= depth + width], minlength=len(first) * fan).reshape(-1, fan)
    upto = first[:, None] + np.cumsum(started, axis=1)
    return (upto - started + exact).ravel(), upto.ravel()


def _entries(first: I64, last: I64, values: I64, longest: int, tables: int) -> tuple[U32, tuple[I64, I64]]:
    """Leaves, runs, and numbers of new tables; what the tables cover."""
    import numpy as np

    many = last - first
    crowded = many > longest
    entries = np.where(many == 0, values[first], RUN | many << RUN_BITS | first + 1)
    entries[crowded] = TABLE | 256 * (tables + np.arange(int(crowded.sum())))
    return entries.astype("<u4"), (first[crowded], last[crowded])
