"""The tables of one list of rules: everything that a packet's way through them looks up, in one arena.

Each field gives a class; cross-product tables join the classes of several fields; each group that is left has a row of bits for every class, one
bit a term, in the order of the rules. The first bit that stands in all rows is the first rule that matches. In front of a row stand aggregates:
bit w says whether word w has any bit (aggregated bit vectors: Baboescu and Varghese, SIGCOMM 2001). Where one group is left, its classes name
the first term themselves.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from compiler import ir
from compiler.classify import groups, sweep
from compiler.classify.groups import Group, Packed
from compiler.classify.shape import KINDS, NOTHING, Shape, Tables, Tree, table_name
from compiler.classify.terms import Term
from compiler.ir import Field
from compiler.tables import address_trie

MIN_ARENA = 1 << 16
MAX_ARENA = 1 << 28
MAX_TERMS = 16384
_UNAGGREGATED = 4  # words of a row: so few are looked at one by one
_SHORT = 1 << 15
_ADDRESSES = (Field.SRC, Field.DST)
_MULTIPLIER = 0x03F79D71B4CB0A89  # a de Bruijn sequence: its product with a single bit has that bit's number on top

class TooLarge(Exception):
    """The rules do not fit into tables; the text says what does not."""


@dataclass(slots=True)
class _Arena:
    """Grows; `root` says where each table begins, in bytes."""

    data: bytearray = field(default_factory=bytearray)
    root: dict[str, int] = field(default_factory=dict)

    def add(self, name: str, content: npt.NDArray[np.generic]) -> None:
        self.data += bytes(-len(self.data) % 8)
        self.root[name] = len(self.data)
        self.data += content.tobytes()
        if len(self.data) > MAX_ARENA:
            raise TooLarge(f"tables of {len(self.data) >> 20} MiB; {MAX_ARENA >> 20} MiB are possible")


def build(terms: Sequence[Term], records: Mapping[int, int]) -> Tables:
    """Tables for the terms, ascending by rule; records[rule]: 31 bits that a match gives back. Raises TooLarge."""
    if len(terms) > MAX_TERMS:
        raise TooLarge(f"{len(terms)} terms; {MAX_TERMS} are possible")
    arena = _Arena()
    arena.add("ctz", _trailing_zeros())
    fields, short = _fields(terms, arena)
    found = groups.join(fields)
    for group in found:
        _tables(group, arena)
    record = np.array([records[term.rule] for term in terms], "<u4")
    words, aggregates = _rows(found, record, arena)
    names = tuple(arena.root)
    size = max(MIN_ARENA, 1 << (len(arena.data) - 1).bit_length())
    shape = Shape(tuple(tree(group) for group in found), words, aggregates, names, short, size)
    return Tables(shape, np.array(list(arena.root.values()), "<u4").tobytes(), bytes(arena.data).ljust(size, b"\0"))


def tree(group: Group) -> Tree:
    return group.name if group.left is None or group.right is None else (tree(group.left), tree(group.right))


def _trailing_zeros() -> npt.NDArray[np.uint8]:
    found = np.zeros(64, np.uint8)
    for bit in range(64):
        found[(_MULTIPLIER << bit) % (1 << 64) >> 58] = bit
    return found


def _fields(terms: Sequence[Term], arena: _Arena) -> tuple[list[Group], bool]:
    """A group and its tables for every field that a term names."""
    found, tries = [], []
    for name in sorted({name for term in terms for name in term.box.fields}):
        atoms, wishes = groups.numbered([term.box.fields.get(name) for term in terms])
        if name in _ADDRESSES:
            v4, v6, classes = sweep.addresses(atoms)
            tries += [(f"{name}{family}", address_trie.build(part.keys, part.classes)) for family, part in ((4, v4), (6, v6))]
        else:
            intervals, classes = sweep.numbers(atoms, ir.FIELD_BITS[name])
            arena.add(name, _direct(intervals, ir.FIELD_BITS[name]))
        found.append(groups.of_field(name, wishes, classes))
    masks, wishes = groups.numbered([(term.box.mask, term.box.kinds) if term.box.mask else None for term in terms])
    if masks:
        of_kinds, classes = sweep.kinds(masks)
        arena.add(KINDS, of_kinds.astype("<u2"))
        found.append(groups.of_field(KINDS, wishes, classes))
    short = all(group.size < _SHORT for group in found) and sum(len(trie.chunks) >> 8 for _, trie in tries) < _SHORT
    _tries(tries, short, arena)
    return found or [groups.of_field(KINDS, [-1] * len(terms), sweep.NO_CLASSES)], short


def _direct(intervals: sweep.Intervals, bits: int) -> npt.NDArray[np.uint16]:
    starts = intervals.keys.view(">u4").ravel().astype(np.int64)
    return np.repeat(intervals.classes, np.diff(np.append(starts, 1 << bits))).astype("<u2")


def _tries(tries: Sequence[tuple[str, address_trie.Trie]], short: bool, arena: _Arena) -> None:
    """Roots one after the other, then the chunks of all."""
    base = 0
    leaf, kind = (_SHORT, "<u2") if short else (1 << 31, "<u4")
    chunks = []
    for name, trie in tries:
        root, below = (np.where(part < 0, leaf - 1 - part, part + base).astype(kind) for part in (trie.root, trie.chunks))
        arena.add(name, root)
        chunks.append(below)
        base += len(below) >> 8
    if tries:
        arena.add("chunks", np.concatenate(chunks))


def _tables(group: Group, arena: _Arena) -> None:
    if group.left is None or group.right is None or group.table is None:
        return
    _tables(group.left, arena)
    _tables(group.right, arena)
    name = table_name(tree(group))
    arena.add(name, group.table.astype("<u2"))
    arena.root[f"{name}.width"] = group.right.size


def _rows(found: Sequence[Group], record: npt.NDArray[np.uint32], arena: _Arena) -> tuple[int, int]:
    """The rows of every group, or the first terms of the only one. Words of a row and of its aggregates."""
    bits = [groups.rows(group, len(record)) for group in found]
    if len(found) == 1:
        arena.add("first", _first(bits[0], record))
        return 0, 0
    arena.add("records", record)
    words = bits[0].shape[1]
    aggregates = 0 if words <= _UNAGGREGATED else (words + 63) // 64
    for group, part in zip(found, bits, strict=True):
        arena.add(f"rows.{table_name(tree(group))}", np.hstack([_aggregated(part, aggregates), part]))
    arena.root["stride"] = 8 * (words + aggregates)
    return words, aggregates


def _first(bits: Packed, record: npt.NDArray[np.uint32]) -> npt.NDArray[np.uint32]:
    """The record of the first term of each class."""
    row, term = groups.bits_of(bits)
    found = np.full(len(bits), NOTHING, "<u4")
    rows, at = np.unique(row, return_index=True)
    found[rows] = record[np.minimum.reduceat(term, at)] if len(rows) else 0
    return found


def _aggregated(bits: Packed, aggregates: int) -> Packed:
    found = np.zeros((len(bits), aggregates), np.uint64)
    if aggregates:
        row, word = np.nonzero(bits)
        groups.set_bits(found, row, word)
    return found
