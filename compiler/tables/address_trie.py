"""A multibit trie in an array: the first 16 bits of an address index the root, each further byte a chunk of 256 entries.

An entry is a leaf (LEAF | class) or the number of a chunk. IPv4 takes at most three loads, IPv6 as many as its longest prefix there asks for.
All tries of a table share their chunks. (Leaf-pushed multibit tries: Srinivasan and Varghese, TOCS 1999.)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    I64 = npt.NDArray[np.int64]

ROOT_BITS = 16


@dataclass(frozen=True, slots=True)
class Trie:
    """Entries as signed numbers: -1 - class is a leaf, else the number of a chunk counted from this trie's first."""

    root: I64
    chunks: I64


def build(keys: npt.NDArray[np.uint8], classes: I64) -> Trie:
    """keys: ascending big-endian starts of intervals (n, bytes), the first zero; classes: of each interval."""
    import numpy as np

    used = keys.shape[1] - np.argmax(np.flip(keys != 0, axis=1), axis=1)  # bytes of a key up to its last that is not zero
    used[~keys.any(axis=1)] = 0
    first, last = _children(np.zeros(1, np.int64), np.array([len(keys) - 1]), keys, used, 0, 2)
    root, open_ = _entries(first, last, classes, 0)
    levels, depth = [], 2
    count = len(open_[0])
    while len(open_[0]):
        first, last = _children(*open_, keys, used, depth, 1)
        entries, open_ = _entries(first, last, classes, count)
        levels.append(entries)
        count += len(open_[0])
        depth += 1
    return Trie(root, np.concatenate(levels) if levels else np.zeros(0, np.int64))


def _children(first: I64, last: I64, keys: npt.NDArray[np.uint8], used: I64, depth: int, width: int) -> tuple[I64, I64]:
    """The first and the last interval of every child; blocks cover first..last and have been walked down `depth` bytes."""
    import numpy as np

    fan = 1 << 8 * width
    many = last - first
    inside = np.repeat(first + 1 - np.cumsum(many) + many, many) + np.arange(many.sum())  # the keys that lie in each block
    digit = keys[inside, depth].astype(np.int64)
    if width == 2:
        digit = digit << 8 | keys[inside, depth + 1]
    place = np.repeat(np.arange(len(first)), many) * fan + digit
    started = np.bincount(place, minlength=len(first) * fan).reshape(-1, fan)
    exact = np.bincount(place[used[inside] <= depth + width], minlength=len(first) * fan).reshape(-1, fan)
    upto = first[:, None] + np.cumsum(started, axis=1)
    return (upto - started + exact).ravel(), upto.ravel()


def _entries(first: I64, last: I64, classes: I64, next_chunk: int) -> tuple[I64, tuple[I64, I64]]:
    """Leaves where one class covers the child, numbers of new chunks where not; what the chunks cover."""
    import numpy as np

    open_ = first != last
    entries = -1 - classes[first]
    entries[open_] = next_chunk + np.arange(int(open_.sum()))
    return entries, (first[open_], last[open_])
