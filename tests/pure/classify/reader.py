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
        word = self._number(self.root[f"{name}.lists"] + 8 * self._interval(name), 8)
        start, count = word & 0xFFFFFFFF, word >> 32 & 0xFFFF
        assert count <= self.shape.buckets[ADDRESSES.index(name)]
        other = self._interval(ADDRESSES[1 - ADDRESSES.index(name)])
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
            return self._number(self.root[_name(tree)] + 2 * (left * width + right), 2)
        name = str(tree)
        if name == "service":
            return self._class(self.shape.service)
        if name in ADDRESSES:
            if f"{name}.lists" in self.root:
                return self._number(self.root[f"{name}.lists"] + 8 * self._interval(name), 8) >> 48
            return self._number(self.root[f"{name}.classes"] + 2 * self._interval(name), 2)
        if name == "kinds":
            return self._number(self.root["kinds"] + 2 * self.kinds, 2) if "kinds" in self.root else 0
        return self._number(self.root[name] + 2 * self.fields[name], 2) if name in self.fields else 0

    def _interval(self, name: str) -> int:
        value = self.fields.get(name)
        if value is None:
            return self.root[f"{name}.absent"]
        if value >= ir.V4_BASE:
            return self.root[f"{name}.v4"] + self._of_v4(name, value - ir.V4_BASE) - 1
        return self._of_v6(name, value) - 1

    def _of_v4(self, name: str, value: int) -> int:
        """Counted from 1: the last interval that does not begin behind the address."""
        upper, lower = divmod(value, 1 << 16)
        first, end = (self._number(self.root[f"{name}.begins4"] + 4 * (upper + step), 4) for step in (0, 1))
        starts = [self._number(self.root[f"{name}.lower4"] + 2 * at, 2) for at in range(first, end)]
        return first + bisect_right(starts, lower)

    def _of_v6(self, name: str, value: int) -> int:
        """Counted from 1, as for IPv4."""
        high, low = divmod(value, 1 << 64)
        upper = high >> 48
        split = self._number(self.root[f"{name}.splits6"] + 4 * upper, 4)
        at = self.root[f"{name}.begins6"] + 4 * upper
        if split:
            at = self.root[f"{name}.tables6"] + 4 * (split - 1 + (high >> 36 & 0xFFF))
        first, end = (self._number(at + 4 * step, 4) for step in (0, 1))
        return first + bisect_right([self._start6(name, number) for number in range(first, end)], (high, low))

    def _start6(self, name: str, number: int) -> tuple[int, int]:
        high = self._number(self.root[f"{name}.high6"] + 8 * number, 8)
        return high, self._number(self.root[f"{name}.low6"] + 8 * number, 8) if f"{name}.low6" in self.root else 0


def _name(tree: Tree) -> str:
    return str(tree) if isinstance(tree, str) else f"{_name(tree[0])}+{_name(tree[1])}"
