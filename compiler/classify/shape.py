"""What tables look like from outside: all that a program which looks into them has to know."""

from __future__ import annotations

from dataclasses import dataclass

KINDS = "kinds"
SERVICE = "service"  # in trees beside buckets: the class of all fields but the addresses
NOTHING = 0xFFFFFFFF  # in a table of first terms: no rule matches


class TooLarge(Exception):
    """The rules do not fit into tables; the text says what does not."""


Tree = str | tuple["Tree", "Tree"]


@dataclass(frozen=True, slots=True)
class Shape:
    """All that the program's text depends on. trees: of each group, the fields in it; words: of a row, at most; names: of the root's words;
    arena: bytes, a power of two. wide: tables whose classes have 32 bits instead of 16. buckets: for sources and destinations the most entries of a list (0: none); with them `service` is the tree of all
    fields but the addresses."""

    trees: tuple[Tree, ...]
    words: int
    aggregates: int
    names: tuple[str, ...]
    arena: int
    buckets: tuple[int, int] = (0, 0)
    service: Tree = KINDS
    wide: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tables:
    """broad: the records of the terms that are not filed under an address, by their bit in a row; why: what the other ways would have come to."""

    shape: Shape
    root: bytes
    arena: bytes
    broad: tuple[int, ...] = ()
    why: str = ""


def table_name(tree_: Tree) -> str:
    """What the cross-product table of a join is called in the root."""
    return tree_ if isinstance(tree_, str) else f"{table_name(tree_[0])}+{table_name(tree_[1])}"
