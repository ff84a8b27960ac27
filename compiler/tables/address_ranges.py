"""Which interval an address lies in: by its upper bits, then a search among the few intervals that begin there.

IPv4 is cut at 16 bits (DXR: Zec, Rizzo and Mikuc, CCR 2012); IPv6 at 16 and, where many begin there, at 28. A table of 900,000 IPv4 prefixes
takes 4 MiB, of 160,000 IPv6 prefixes 7, and a search stays within a cache line or two.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Keys = npt.NDArray[np.uint8]  # ascending big-endian starts of intervals (n, bytes), the first zero
    U32 = npt.NDArray[np.uint32]

SPLIT_BITS = 12
_SPLIT_FROM = 64  # intervals with the same upper 16 bits


@dataclass(frozen=True, slots=True)
class Ranges4:
    """begins[upper]..begins[upper + 1]: the intervals that begin with these upper 16 bits; lower: the lower 16 bits of every interval's first
    address. An address lies in the last interval that does not begin behind it."""

    begins: U32
    lower: npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Ranges6:
    """begins as for IPv4; splits[upper]: 0, or 1 + the first of 2**SPLIT_BITS + 1 entries of `tables`, which are begins of the next bits; high
    and low: the 64-bit halves of every interval's first address; no `low` where all are zero."""

    begins: U32
    splits: U32
    tables: U32
    high: npt.NDArray[np.uint64]
    low: npt.NDArray[np.uint64]


def build4(keys: Keys) -> Ranges4:
    """keys of 4 bytes."""
    import numpy as np

    starts = np.ascontiguousarray(keys).view(">u4").ravel().astype(np.int64)
    begins = np.searchsorted(starts, np.arange((1 << 16) + 1) << 16)
    return Ranges4(begins.astype("<u4"), (starts & 0xFFFF).astype("<u2"))


def build6(keys: Keys) -> Ranges6:
    """keys of 16 bytes."""
    import numpy as np

    high, low = np.ascontiguousarray(keys).view(">u8").astype("<u8").T
    begins = np.append(np.searchsorted(high, np.arange(1 << 16, dtype=np.uint64) << np.uint64(48)), len(high))
    crowded = np.flatnonzero(np.diff(begins) > _SPLIT_FROM)
    size = (1 << SPLIT_BITS) + 1
    splits = np.zeros(1 << 16, "<u4")
    splits[crowded] = 1 + size * np.arange(len(crowded))
    steps = np.arange(size - 1, dtype=np.uint64) << np.uint64(48 - SPLIT_BITS)
    inside = np.searchsorted(high, (crowded.astype(np.uint64)[:, None] << np.uint64(48)) + steps)
    tables = np.hstack([inside, begins[crowded + 1][:, None]]).ravel()
    return Ranges6(begins.astype("<u4"), splits, tables.astype("<u4"), np.ascontiguousarray(high), np.ascontiguousarray(low) if low.any() else low[:0])
