"""Places in policy text. Every AST node, IR node and diagnostic says where it came from with a Span."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from compiler.ir import Ranges


class Span(msgspec.Struct, frozen=True, gc=False):
    """A region of one file; lines and columns count from 1, the end column is exclusive."""

    file: str
    line: int
    column: int
    end_line: int
    end_column: int

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


NOWHERE = Span("<netc>", 1, 1, 1, 1)
"""The place of things that netc itself adds (built-in rules, defaults of the language)."""


class Sources:
    """The text of every file of one compilation, so that a diagnostic can draw the place it speaks of.

    names: what the policy's own text files are called as seen from its folder, exactly as the includes lead there (`link/../x` is not `x`);
    files that hold a set's members are not among them.
    """

    def __init__(self) -> None:
        self._text: dict[str, list[str]] = {}
        self.names: dict[str, str] = {}
        self.by_hand: frozenset[str] = frozenset()  # fixed sets that no longer hold what their declaration says

    def kept(self, name: str) -> str | None:
        """The text of a policy file that is not to be read from disk (compiler.kept), by its name as seen from the policy's folder."""
        return None

    def members(self, name: str, from_file: bool) -> tuple[str, Ranges] | None:
        """Type and members of a fixed set that are not to be taken from its declaration (compiler.kept)."""
        return None

    def texts(self) -> dict[str, str]:
        """The policy's own files by name, whole: what a bundle carries to be compiled again."""
        return {name: "\n".join(self._text[file]) for file, name in self.names.items()}

    def add(self, file: str, text: str) -> None:
        self._text[file] = text.split("\n")

    def line(self, file: str, number: int) -> str | None:
        """Line `number` (from 1) of `file`, or None where there is none."""
        lines = self._text.get(file, [])
        return lines[number - 1] if 0 < number <= len(lines) else None

    def length(self, file: str) -> int:
        """How many lines `file` has, a last one without an end included."""
        return len(self._text.get(file, ()))

    def all_texts(self) -> dict[str, str]:
        """Every file's text, those of sets too, by the path that it was read from, in the order of reading."""
        return {file: "\n".join(lines) for file, lines in self._text.items()}

    def digest(self) -> str:
        """SHA-256 over every file's text, in the order of reading: what a bundle says it was made from."""
        whole = hashlib.sha256()
        for lines in self._text.values():
            text = "\n".join(lines).encode()
            whole.update(len(text).to_bytes(8, "big") + text)
        return whole.hexdigest()
