"""A second reader of an arena: plain Python over its bytes, written from the tables' description, sharing nothing with the C or its text."""

from __future__ import annotations

import struct
from bisect import bisect_right
from collections.abc import Mapping

from compiler import ir
from compiler.classify.shape import Tables, Tree

NONE = 0xFFFFFFFF
ADDRESSES = ("src", "dst")


class Reader:
    """Looks one packet up; the answer is the record of the first rule that matches, or NONE."""

    def __init__(self, tables: Tables) -> None:
        self.shape, self.arena = tables.shape, tables.arena
        words = struct.unpack(f"<{len(tables.shape.names)}I", tables.root)
        self.root = dict(zip(map(str, tables.shape.names), words, strict=True))

    def find(self, fields: Mapping[ir.Field, int], kinds: frozenset[str]) -> int:
        self.fields = {str(name): value for name, value in fields.items()}
        self.kinds = sum(1 << ir.KINDS.index(kind) for kind in kinds)
        filed = min((self._filed(name) for name in ADDRESSES), default=NONE) if "src.lists" in self.root else NONE
        return min(filed, self._first() if not self.shape.words else self._scanned())

    def _number(self, at: int, size: int) -> int:
        assert 0 <= at <= len(self.arena) - size, "outside the arena"
        return int.from_bytes(self.arena[at : at + size], "little")

    def _first(self) -> int:
        (tree,) = self.shape.trees
        return self._number(self.root["first"] + 4 * self._class(tree), 4)

    def _scanned(self) -> int:
        """By the rows alone; that the aggregates say the same is asserted for every packet."""
        size, ahead = 8 * self.shape.words, 8 * self.shape.aggregates
        assert self.root["stride"] == size + ahead
        rows = [self.root[f"rows.{_name(tree)}"] + self._class(tree) * self.root["stride"] for tree in self.shape.trees]
        for row in rows:
            parts = [self._number(row + ahead + 8 * word, 8) for word in range(self.shape.words)]
            if ahead:
                assert self._number(row, ahead) == sum(1 << word for word, part in enumerate(parts) if part)
        both = -1
        for row in rows:
            both &= self._number(row + ahead, size)
        return self._number(self.root["records"] + 4 * ((both & -both).bit_length() - 1), 4) if both else NONE

    def _filed(self, name: str) -> int:
        """The list is read to its end: the first that fits, and no later one may come before it."""
        word = self._number(self.root[f"{name}.lists"] + 8 * self._leaf(name), 8)
        start, count = word & 0xFFFFFFFF, word >> 32 & 0xFFFF
        assert count <= self.shape.buckets[ADDRESSES.index(name)]
        other = self._leaf(ADDRESSES[1 - ADDRESSES.index(name)])
        row = self.root["service.rows"] + self._class(self.shape.service) * self.root["service.width"]
        found, before = [], -1
        for at in range(start, start + count):
            record, first, more, combination = struct.unpack_from("<4I", self.arena, self.root[f"{name}.entries"] + 16 * at)
            assert record >= before, "a list is not in the order of the rules"
            before = record
            if first <= other <= first + more and self._number(row + combination // 8, 1) >> combination % 8 & 1:
                found.append(record)
        return min(found, default=NONE)

    def _class(self, tree: Tree) -> int:
        if not isinstance(tree, str):
            left, right = (self._class(part) for part in tree)
            width = self.root[f"{_name(tree)}.width"]
            assert right < width
            return self._entry(_name(tree), left * width + right)
        name = str(tree)
        if name == "service":
            return self._class(self.shape.service)
        if name in ADDRESSES:
            if f"{name}.broad" in self.root:
                return self._entry(f"{name}.broad", self._leaf(name))
            if f"{name}.lists" in self.root:
                return self._number(self.root[f"{name}.lists"] + 8 * self._leaf(name), 8) >> 48
            return self._leaf(name)
        if name == "kinds":
            return self._entry("kinds", self.kinds) if "kinds" in self.root else 0
        return self._entry(name, self.fields[name]) if name in self.fields else 0

    def _entry(self, name: str, index: int) -> int:
        """A class out of a table of classes."""
        size = 4 if name in self.shape.wide else 2
        return self._number(self.root[name] + size * index, size)

    def _leaf(self, name: str) -> int:
        """Of the address: a class, or where there is no table of classes an interval."""
        value = self.fields.get(name)
        if value is None:
            return self.root.get(f"{name}.absent", 0)
        family, octets = (4, (value - ir.V4_BASE).to_bytes(4, "big")) if value >= ir.V4_BASE else (6, value.to_bytes(16, "big"))
        entry = self._number(self.root[f"{name}.root{family}"] + 4 * (octets[0] << 8 | octets[1]), 4)
        for octet in octets[2:]:
            if not entry >> 31:
                break
            entry = self._number(self.root[f"{name}.tables{family}"] + 4 * ((entry & 0x7FFFFFFF) + octet), 4)
        assert not entry >> 31, "a trie without an end"
        return self._in_run(name, family, entry, value) if entry >> 30 else entry

    def _in_run(self, name: str, family: int, entry: int, value: int) -> int:
        """The last of the run's intervals that does not begin behind the address, or the one before the run."""
        first, many = entry & 0xFFFFFF, entry >> 24 & 0x3F
        starts = [self._start(name, family, number) for number in range(first, first + many)]
        wanted = (value & 0xFFFF, 0) if family == 4 else divmod(value, 1 << 64)
        interval = first - 1 + bisect_right(starts, wanted) + (self.root[f"{name}.v4"] if family == 4 else 0)
        return self._entry(f"{name}.classes", interval) if f"{name}.classes" in self.root else interval

    def _start(self, name: str, family: int, number: int) -> tuple[int, int]:
        if family == 4:
            return self._number(self.root[f"{name}.lower4"] + 2 * number, 2), 0
        high = self._number(self.root[f"{name}.high6"] + 8 * number, 8)
        return high, self._number(self.root[f"{name}.low6"] + 8 * number, 8) if f"{name}.low6" in self.root else 0


def _name(tree: Tree) -> str:
    return str(tree) if isinstance(tree, str) else f"{_name(tree[0])}+{_name(tree[1])}"
