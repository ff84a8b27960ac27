"""The tables of one list of rules: everything that a packet's way through them looks up, in one arena.

Each field gives a class; cross-product tables join the classes of several fields; each group that is left has a row of bits for every class, one
bit a term, in the order of the rules. The first bit that stands in all rows is the first rule that matches. In front of a row stand aggregates:
bit w says whether word w has any bit (aggregated bit vectors: Baboescu and Varghese, SIGCOMM 2001). Where one group is left, its classes name
the first term themselves. Where enough terms name a narrow address, those are filed in buckets (compiler.classify.buckets), and rows are for the rest.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from compiler import ir
from compiler.classify import alone, buckets, groups, sweep
from compiler.classify.buckets import Side
from compiler.classify.groups import Group, Packed
from compiler.classify.shape import KINDS, NOTHING, SERVICE, Shape, Tables, TooLarge, Tree, table_name
from compiler.classify.sweep import I64, Keys, Partition
from compiler.classify.terms import Term
from compiler.ir import Field
from compiler.tables import address_trie, changes

MIN_ARENA = 1 << 16
MAX_ARENA = 1 << 28
MAX_ROWS = 16384  # terms with a bit: with twice as many the verifier walks ten times as far
MIN_FILED = 256  # terms in buckets: for fewer it is not worth it
_MAX_GROUPS = 8  # `row` in prelude.h
NARROW = (1 << 16) - 1  # classes: more have 32 bits in their tables
_MAX_SERVICES, _MAX_SERVICE_TABLE = 1 << 20, 1 << 22
_MAX_SERVICE_ROWS = 1 << 25  # bytes
_UNAGGREGATED = 8  # words of a row: so few are looked at one by one
_ADDRESSES = (Field.SRC, Field.DST)
_MULTIPLIER = 0x03F79D71B4CB0A89  # a de Bruijn sequence: its product with a single bit has that bit's number on top


@dataclass(slots=True)
class _Arena:
    """Grows; `root` says where each table begins, in bytes, and what else a program has to know. narrow: classes beyond so many have 32 bits."""

    narrow: int
    data: bytearray = field(default_factory=bytearray)
    root: dict[str, int] = field(default_factory=dict)
    wide: list[str] = field(default_factory=list)

    def add_classes(self, name: str, classes: I64) -> None:
        if int(classes.max(initial=0)) > self.narrow:
            self.wide.append(name)
        self.add(name, classes.astype("<u4" if name in self.wide else "<u2"))

    def add(self, name: str, content: npt.NDArray[np.generic]) -> None:
        self.data += bytes(-len(self.data) % 16)
        self.root[name] = len(self.data)
        self.data += content.tobytes()
        self.reserve(0)

    def reserve(self, size: int) -> None:
        """Refuse tables before they are made, when so many bytes more do not fit. Raises TooLarge."""
        if len(self.data) + size > MAX_ARENA:
            raise TooLarge(f"tables of {len(self.data) + size >> 20} MiB; {MAX_ARENA >> 20} MiB are possible")

    def finish(self, broad: I64, why: str, **shape: object) -> Tables:
        self.root["nothing"] = NOTHING
        size = max(MIN_ARENA, 1 << (len(self.data) - 1).bit_length())
        made = Shape(names=tuple(self.root), arena=size, wide=tuple(self.wide), **shape)  # type: ignore[arg-type]
        return Tables(made, np.array(list(self.root.values()), "<u4").tobytes(), bytes(self.data).ljust(size, b"\0"), tuple(broad.tolist()), why)


def build(terms: Sequence[Term], records: Mapping[int, int], narrow: int = NARROW) -> Tables:
    """Tables for the terms, ascending by rule; records[rule]: 31 bits that a match gives back, ascending too. Raises TooLarge.

    narrow: tables for more classes have 32 bits each, or do without classes.
    """
    arena = _Arena(narrow)
    arena.add("ctz", _trailing_zeros())
    record = np.array([records[term.rule] for term in terms], np.int64)
    services = _services(terms, arena)
    sides = [_side(terms, name) for name in _ADDRESSES]
    filed = buckets.divide(sides) if len(terms) >= MIN_FILED else np.full(len(terms), buckets.BROAD)
    if (filed != buckets.BROAD).sum() >= MIN_FILED:
        joined = groups.join(services, _MAX_SERVICES, _MAX_SERVICE_TABLE)
        if len(joined) == 1 and joined[0].members.nbytes <= _MAX_SERVICE_ROWS:
            return _with_buckets(sides, filed, joined[0], record, arena)
    return _with_rows(sides, services, record, arena)


def _with_rows(sides: Sequence[Side], services: Sequence[Group], record: I64, arena: _Arena) -> Tables:
    """All terms have bits."""
    fields = [group for group in services if group.combination.any()]  # what every packet meets needs no row
    asked = [(name, side) for name, side in zip(_ADDRESSES, sides, strict=True) if side.atoms]
    if not fields and len(asked) == 1:
        return _alone(*asked[0], record, arena)
    classes = {name: sweep.classes(side.partition, np.ones(side.atoms, bool)) for name, side in asked}
    fields += [groups.of_field(name, side.wishes, classes[name]) for name, side in asked]
    joined = groups.join(fields or services)
    direct: dict[str, I64] = {name: classes[name].of_interval for name in classes if name in map(tree, joined) and classes[name].count > arena.narrow}
    found, words, aggregates = _rows(joined, record, arena, direct, _changeable(record))
    for name, side in asked:
        if name in direct:
            _numbered_trie(name, side.partition, arena)
        else:
            arena.add_classes(f"{name}.classes", classes[name].of_interval)
            _trie(name, side.partition.keys, classes[name].of_interval, arena)
    return arena.finish(record, _why(joined, 0), trees=found, words=words, aggregates=aggregates)


def _alone(name: Field, side: Side, record: I64, arena: _Arena) -> Tables:
    """One address is all that the terms ask for."""
    keys, of_interval, answers = alone.answers(side, record)
    arena.add("first", answers)
    arena.add_classes(f"{name}.classes", of_interval)
    _trie(name, keys, of_interval, arena)
    return arena.finish(record, "", trees=(str(name),), words=0, aggregates=0)


def _with_buckets(sides: Sequence[Side], filed: I64, service: Group, record: I64, arena: _Arena) -> Tables:
    """Narrow terms in buckets, the others have bits."""
    _products(service, arena)
    arena.add("service.rows", service.members)
    arena.root["service.width"] = 8 * service.members.shape[1]
    broad = filed == buckets.BROAD
    fields, most = [groups.part_of(service, broad, SERVICE)], []
    for number, (name, side) in enumerate(zip(_ADDRESSES, sides, strict=True)):
        lists = buckets.fill(side, sides[1 - number], filed == number, record, service.combination)
        wanted = np.zeros(side.atoms, bool)
        wanted[side.wishes[broad & (side.wishes >= 0)]] = True
        classes = sweep.classes(side.partition, wanted)
        if wanted.any():
            fields.append(groups.of_field(name, side.wishes[broad], classes))
        most.append(_listed(int(lists.count.max(initial=0))))
        arena.add(f"{name}.entries", lists.entries)
        packed = lists.start | lists.count << 32
        if classes.count > arena.narrow:
            arena.add_classes(f"{name}.broad", np.append(classes.of_interval, 0))
        else:
            packed |= classes.of_interval << 48
        arena.add(f"{name}.lists", np.append(packed, 0).astype("<u8"))  # the last: of a packet without an address
        _numbered_trie(name, side.partition, arena)
    joined = groups.join(fields)
    found, words, aggregates = _rows(joined, record[broad], arena, {}, _changeable(record))
    tree_ = tree(service)
    return arena.finish(record[broad], _why(joined, len(record)), trees=found, words=words, aggregates=aggregates, buckets=(most[0], most[1]), service=tree_)


def _why(left: Sequence[Group], terms: int) -> str:
    """What speaks against one cross-product of everything, and, where terms are filed, against a bit for each of so many terms."""
    said = [f"rows for all would have {terms:,} bits"] if terms else []
    if len(left) > 1:
        said.append(f"one cross-product would need {left[0].size:,} x {left[1].size:,} classes")
    return ", ".join(said)


def _listed(most: int) -> int:
    """Rounded up far, so that a rule more or less keeps the program's text."""
    return 0 if most == 0 else 8 if most <= 8 else buckets.MAX_BUCKET


def tree(group: Group) -> Tree:
    return group.name if group.left is None or group.right is None else (tree(group.left), tree(group.right))


def _trailing_zeros() -> npt.NDArray[np.uint8]:
    found = np.zeros(64, np.uint8)
    for bit in range(64):
        found[(_MULTIPLIER << bit) % (1 << 64) >> 58] = bit
    return found


def _services(terms: Sequence[Term], arena: _Arena) -> list[Group]:
    """A group and its table for every field that a term names, but for addresses."""
    found = []
    for name in sorted({name for term in terms for name in term.box.fields} - set(_ADDRESSES)):
        atoms, wishes = groups.numbered(term.box.fields.get(name) for term in terms)
        partition = sweep.numbers(atoms, ir.FIELD_BITS[name])
        classes = sweep.classes(partition, np.ones(len(atoms), bool))
        starts = partition.keys[0].view(">u4").ravel().astype(np.int64)
        arena.add_classes(name, np.repeat(classes.of_interval, np.diff(np.append(starts, 1 << ir.FIELD_BITS[name]))))
        found.append(groups.of_field(name, wishes, classes))
    masks, wishes = groups.numbered((term.box.mask, term.box.kinds) if term.box.mask else None for term in terms)
    classes = sweep.kinds(masks) if masks else sweep.NO_CLASSES
    if masks:
        arena.add_classes(KINDS, classes.of_interval)
    if masks or not found:
        found.append(groups.of_field(KINDS, wishes, classes))
    return found


def _side(terms: Sequence[Term], name: Field) -> Side:
    atoms, wishes = groups.numbered(term.box.fields.get(name) for term in terms)
    return Side(sweep.addresses(atoms), wishes)


def _numbered_trie(name: Field, partition: Partition, arena: _Arena) -> None:
    """A trie whose leaves are the intervals' own numbers; a packet without an address has the one behind the last."""
    _trie(name, partition.keys, np.arange(partition.intervals), arena)
    arena.root[f"{name}.absent"] = partition.intervals


def _trie(name: Field, keys: tuple[Keys, ...], leaves: I64, arena: _Arena) -> None:
    """What finds the leaf of an address."""
    if len(leaves) > address_trie.MAX_INTERVALS:
        raise TooLarge(f"{len(leaves)} intervals of {name}; {address_trie.MAX_INTERVALS} are possible")
    v6, v4 = keys
    arena.root[f"{name}.v4"] = len(v6)  # the number of the first IPv4 interval
    high, low = np.ascontiguousarray(v6).view(">u8").T
    starts = {"lower4": np.ascontiguousarray(v4).view(">u4").ravel() & 0xFFFF, "high6": high, "low6": low if low.any() else low[:0]}
    for family, trie in ((4, address_trie.build(v4, leaves[len(v6) :])), (6, address_trie.build(v6, leaves[: len(v6)]))):
        arena.add(f"{name}.root{family}", trie.root)
        if len(trie.tables):
            arena.add(f"{name}.tables{family}", trie.tables)
    for part, of_intervals in starts.items():
        if len(of_intervals):
            arena.add(f"{name}.{part}", of_intervals.astype("<u2" if part == "lower4" else "<u8"))


def _products(group: Group, arena: _Arena) -> None:
    """The cross-product tables behind a group."""
    if group.left is None or group.right is None or group.table is None:
        return
    _products(group.left, arena)
    _products(group.right, arena)
    name = table_name(tree(group))
    arena.add_classes(name, group.table)
    arena.root[f"{name}.width"] = group.right.size


def _changeable(record: I64) -> bool:
    """So many rules that they may leave while the tables stay: rows are taken then, of which every bit can go, as long as they are short."""
    return len(np.unique(record)) >= changes.LEAST


def _rows(found: Sequence[Group], record: I64, arena: _Arena, direct: Mapping[str, I64], changeable: bool) -> tuple[tuple[Tree, ...], int, int]:
    """The rows of every group that is left, or the first terms of the only one. The trees; words of a row and of its aggregates.

    direct[name]: the class of every interval of a field that has a row for each interval instead of for each class.
    """
    if len(record) > MAX_ROWS:
        raise TooLarge(f"{len(record)} terms that name no narrow address; {MAX_ROWS} are possible")
    if len(found) > _MAX_GROUPS:
        raise TooLarge(f"the rules ask for {len(found)} fields that cannot be joined; {_MAX_GROUPS} are possible")
    for group in found:
        _products(group, arena)
    trees = tuple(tree(group) for group in found)
    words = groups.classes_words(len(record))
    if len(found) == 1 and not (changeable and 0 < words <= _UNAGGREGATED):
        first = _first(groups.rows(found[0], len(record)), record)
        arena.add("first", first[np.append(direct[found[0].name], 0)] if found[0].name in direct else first)
        return trees, 0, 0
    arena.add("records", record.astype("<u4"))
    aggregates = 0 if words <= _UNAGGREGATED else (words + 63) // 64
    arena.reserve(8 * (words + aggregates) * sum(len(direct.get(group.name, ())) or group.size for group in found))
    for tree_, group in zip(trees, found, strict=True):
        part = groups.rows(group, len(record))
        if group.name in direct:
            part = part[np.append(direct[group.name], 0)]
        arena.add(f"rows.{table_name(tree_)}", np.hstack([_aggregated(part, aggregates), part]))
    arena.root["stride"] = 8 * (words + aggregates)
    return trees, words, aggregates


def _first(bits: Packed, record: I64) -> npt.NDArray[np.uint32]:
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
