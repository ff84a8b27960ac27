"""Equivalence classes of one field: values that the same atoms hold are one class.

An atom is one set of values that terms ask of the field. Every atom gets a random 64-bit number; walking over the field from the lowest value
to the highest and XORing in what begins and what ends gives each interval the signature of the atoms that cover it. A second, independent
signature must agree within every class, so that a collision (2**-64 a pair) is found and tried again with other numbers instead of believed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from compiler import ir
from compiler.ir import Ranges

U64 = npt.NDArray[np.uint64]
I64 = npt.NDArray[np.int64]
_TRIES = 8
_ONE_OF = [sum(1 << ir.KINDS.index(kind) for kind in names) for names in (("ip4", "ip6", "arp", "l2"), ("tcp", "udp", "sctp", "icmp4", "icmp6"))]


@dataclass(frozen=True, slots=True)
class Intervals:
    """Ascending starts of intervals as big-endian keys (n, bytes), the first of which is zero; `classes` of each."""

    keys: npt.NDArray[np.uint8]
    classes: I64


@dataclass(frozen=True, slots=True)
class Classes:
    """How many classes there are, and as two parallel arrays which of them every atom covers. Class 0 is that of no atom: what a packet without
    the field has."""

    count: int
    covered: I64
    atom: I64


NO_CLASSES = Classes(1, np.zeros(0, np.int64), np.zeros(0, np.int64))  # of a field that nothing asks for


def numbers(atoms: Sequence[Ranges], bits: int) -> tuple[Intervals, Classes]:
    """A field of at most 32 bits."""
    found, classes = _classes([_sorted(atoms, 0, (1 << bits) - 1, bits)], len(atoms))
    return found[0], classes


def addresses(atoms: Sequence[Ranges]) -> tuple[Intervals, Intervals, Classes]:
    """IPv4 and IPv6 intervals, with one numbering of classes over both."""
    parts = [_sorted(atoms, ir.V4_BASE, ir.V4_LAST, 32), _sorted(atoms, 0, ir.V4_BASE - 1, 128)]
    (v4, v6), classes = _classes(parts, len(atoms))
    return v4, v6, classes


def kinds(atoms: Sequence[tuple[int, int]]) -> tuple[I64, Classes]:
    """The class of each of the 2**16 sets of kinds; atoms are (mask, kinds). A set that no packet has is of class 0."""
    values = np.arange(1 << len(ir.KINDS))
    possible = np.logical_and.reduce([np.bitwise_count(values & mask) <= 1 for mask in _ONE_OF])
    members = np.array([(values & mask == wanted) & possible for mask, wanted in atoms], dtype=bool).reshape(len(atoms), len(values))
    first = np.random.default_rng(0).integers(1, 1 << 63, (2, max(1, len(atoms))), dtype=np.uint64)
    signatures = np.array([np.bitwise_xor.reduce(np.where(members, row[: len(atoms), None], np.uint64(0)), axis=0) for row in first])
    inverse, sample = _unique(signatures[0], signatures[1])
    atom, place = np.nonzero(members[:, sample])
    return inverse, Classes(len(sample) + 1, place + 1, atom)


@dataclass(frozen=True, slots=True)
class _Events:
    """One part of a field: the keys at which its intervals begin, the first of which is zero; each range of each atom as first..last interval."""

    keys: npt.NDArray[np.uint8]
    first: I64
    last: I64
    atom: I64


def _sorted(atoms: Sequence[Ranges], low: int, high: int, bits: int) -> _Events:
    """The atoms' ranges within low..high, as offsets from `low`."""
    size = bits // 8 if bits > 32 else 4
    cut = [(number, max(a, low) - low, min(b, high) - low) for number, ranges in enumerate(atoms) for a, b in ranges if b >= low and a <= high]
    room = 1 << bits
    text = b"".join([a.to_bytes(size, "big") for _, a, _ in cut] + [((b + 1) % room).to_bytes(size, "big") for _, _, b in cut])
    keys = np.vstack([np.zeros((1, size), np.uint8), np.frombuffer(text, np.uint8).reshape(-1, size)])
    words = keys.view(">u8" if size == 16 else ">u4")
    order = np.lexsort(tuple(words[:, column] for column in reversed(range(words.shape[1]))))
    fresh = np.ones(len(keys), bool)
    fresh[1:] = (keys[order][1:] != keys[order][:-1]).any(axis=1)
    interval = np.empty(len(keys), np.int64)
    interval[order] = np.cumsum(fresh) - 1
    starts, ends = interval[1 : len(cut) + 1], interval[len(cut) + 1 :]
    whole = int(fresh.sum())
    return _Events(keys[order][fresh], starts, np.where(ends == 0, whole, ends) - 1, np.array([number for number, _, _ in cut], np.int64))


def _classes(parts: Sequence[_Events], atoms: int) -> tuple[list[Intervals], Classes]:
    for seed in range(_TRIES):
        random = np.random.default_rng(seed).integers(1, 1 << 63, (2, max(1, atoms)), dtype=np.uint64)
        first, second = (np.concatenate([_signatures(part, row) for part in parts]) for row in random)
        try:
            inverse, sample = _unique(first, second)
        except ArithmeticError:
            continue
        sizes = np.cumsum([len(part.keys) for part in parts])[:-1]
        found = [Intervals(part.keys, classes) for part, classes in zip(parts, np.split(inverse, sizes), strict=True)]
        return found, _covered(parts, sample)
    raise AssertionError("signatures of 128 bits collide again and again")


def _signatures(part: _Events, random: U64) -> U64:
    steps = np.zeros(len(part.keys) + 1, np.uint64)
    np.bitwise_xor.at(steps, part.first, random[part.atom])
    np.bitwise_xor.at(steps, part.last + 1, random[part.atom])
    return np.bitwise_xor.accumulate(steps)[:-1]


def _unique(first: U64, second: U64) -> tuple[I64, I64]:
    """The class of each place, from 1 on but 0 for the empty signature, and a place of every class from 1 on. Raises ArithmeticError."""
    values, sample, inverse = np.unique(first, return_index=True, return_inverse=True)
    if (second[sample][inverse] != second).any():
        raise ArithmeticError("two classes have one signature")
    if len(values) and values[0] == 0:
        return inverse.astype(np.int64), sample[1:]
    return inverse.astype(np.int64) + 1, sample


def _covered(parts: Sequence[_Events], sample: I64) -> Classes:
    """Which of the sampled intervals lie in each range."""
    order = np.argsort(sample)
    sorted_, base, found = sample[order], 0, []
    for part in parts:
        first = np.searchsorted(sorted_, part.first + base)
        many = np.searchsorted(sorted_, part.last + base, side="right") - first
        found.append((order[spread(first, many)] + 1, np.repeat(part.atom, many)))
        base += len(part.keys)
    return Classes(len(sample) + 1, *(np.concatenate(column) for column in zip(*found, strict=True)))


def spread(first: I64, many: I64) -> I64:
    """first[0], first[0] + 1, ... (many[0] of them), first[1], ..."""
    return np.repeat(first - np.cumsum(many) + many, many) + np.arange(many.sum())
