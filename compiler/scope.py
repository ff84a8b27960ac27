"""What the names of a policy stand for: nics, sets, constants, rule lists. Every look-up that fails becomes a finding."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from compiler import ir, syntax, types
from compiler.findings import Findings, LiteralError
from compiler.ranges import normalize
from compiler.source import Sources, Span
from compiler.suggest import closest, hint

COUNTED = frozenset(("default", "control", "seen", "handed-on"))  # beside the rules, in every chain
RESERVED = COUNTED | {"carried", "unreadable", "unmarked", "unclassified", "elsewhere"}  # the stages' own counters
MAX_NAME = 40
_NAME = re.compile(r"[A-Za-z0-9_-]+")


if TYPE_CHECKING:
    from compiler.remembered import Memory


@dataclass(slots=True)
class Scope:
    """sets in the order of their declaration. unread: words of statements that could not be parsed, never called unknown.

    memory: what remembered.py knows.
    """

    findings: Findings
    sources: Sources
    nics: dict[str, ir.Nic] = field(default_factory=dict)
    sets: dict[str, ir.Set] = field(default_factory=dict)
    consts: dict[str, syntax.Const] = field(default_factory=dict)
    rules: dict[str, syntax.Rules] = field(default_factory=dict)
    unread: set[str] = field(default_factory=set)
    memory: Memory | None = None

    def error(
        self, code: str, message: str, span: Span, help: str = "", notes: tuple[tuple[Span, str], ...] = ()
    ) -> None:
        self.findings.add(code, message, span, help, notes)

    # --- names ---
    def good_name(self, word: syntax.Word, what: str) -> bool:
        """Whether `word` can name something that gets a counter; says why not."""
        if not _NAME.fullmatch(word.text) or len(word.text) > MAX_NAME:
            self.error(
                "N022",
                f"`{word.text[:60]}` cannot be the name of {what}",
                word.span,
                f"a name has letters, digits, `-` and `_`, at most {MAX_NAME}",
            )
            return False
        if word.text in RESERVED:
            self.error(
                "N022",
                f"`{word.text}` cannot be the name of {what}: netc counts something of its own under it",
                word.span,
                f"choose another name, such as `{word.text}-{what.split()[-1]}`",
            )
            return False
        return True

    def declare(self, word: syntax.Word, what: str, known: dict[str, Span]) -> bool:
        """Whether the name is good and new among `known` (which gets it)."""
        if not self.good_name(word, what):
            return False
        if word.text in known:
            self.error(
                "N021",
                f"there are two {what.split()[-1]}s with the name `{word.text}`",
                word.span,
                "give one of them another name",
                ((known[word.text], "the first one"),),
            )
            return False
        known[word.text] = word.span
        return True

    def unknown(self, what: str, word: syntax.Word, known: object, otherwise: str = "") -> None:
        """Reports an unknown name, unless it may be declared in a statement that could not be read."""
        names = list(known) if isinstance(known, (dict, set, frozenset, tuple, list)) else []
        if word.text not in self.unread:
            self.error("N020", f"there is no {what} `{word.text[:60]}`", word.span, hint(word.text, names, otherwise))

    def nic(self, word: syntax.Word) -> ir.Nic | None:
        """The nic of that name, None with a finding where there is none."""
        if word.text not in self.nics:
            self.unknown("nic", word, self.nics, "" if self.nics else f"declare it: nic {word.text} {{ device eth0 }}")
        return self.nics.get(word.text)

    def set(self, word: syntax.Word, type: str = "") -> ir.Set | None:
        """The set of that name and type, None with a finding."""
        found = self.sets.get(word.text)
        if found is None:
            self.unknown("set", word, self.sets, "" if self.sets else f"declare it: set {word.text} = {{ … }}")
        elif type and found.type != type:
            self.error(
                "N035",
                f"`{word.text}` is a set of {plural(found.type)}, and here {plural(type)} are compared",
                word.span,
                self._set_help(type),
                ((found.span, "declared here"),),
            )
            return None
        return found

    def _set_help(self, type: str) -> str:
        fitting = [s.name for s in self.sets.values() if s.type == type]
        fields = "`src` and `dst`" if type == "address" else "`sport` and `dport`"
        return (
            (f"sets of {plural(type)}: " + ", ".join(f"`{n}`" for n in fitting))
            if fitting
            else f"{fields} take sets of {plural(type)}"
        )

    # --- values ---
    def expand(self, word: syntax.Word) -> tuple[syntax.Word, ...]:
        """The words a constant stands for, placed where its name was used; any other word stands for itself."""
        const = self.consts.get(word.text)
        if const is None:
            return (word,)
        items = const.value.items if isinstance(const.value, syntax.Literal) else (const.value,)
        return tuple(syntax.Word(item.text, word.span) for item in items)

    def single(self, word: syntax.Word) -> syntax.Word:
        """The one value a word stands for; a list in its place is a finding."""
        values = self.expand(word)
        if len(values) != 1:
            self.error(
                "N033",
                f"`{word.text}` is a list of {len(values)} values, and this is one",
                word.span,
                "write one value",
            )
        return values[0] if values else word

    def ranges(self, words: tuple[syntax.Word, ...], type: types.ValueType, sets: bool = False) -> ir.Ranges | None:
        """The values of all words as ranges; None with findings. sets: names of static sets may stand among them."""
        found: list[tuple[int, int]] = []
        errors = self.findings.errors
        for word in words:
            for value in self.expand(word):
                if sets and value.text in self.sets:
                    found += self._inlined(value, type)
                    continue
                try:
                    found.append(type.parse(value.text))
                except LiteralError as error:
                    self._bad_value(error, value, type)
        return normalize(found) if self.findings.errors == errors else None

    def _inlined(self, word: syntax.Word, type: types.ValueType) -> ir.Ranges:
        found = self.set(word, type.set_type)
        if found and found.size is not None:
            self.error(
                "N035",
                f"`{word.text}` changes while netc runs; a fixed set cannot contain it",
                word.span,
                f"test both: `src in {word.text} or src in …`",
            )
            return ()
        return found.ranges if found else ()

    def _bad_value(self, error: LiteralError, word: syntax.Word, type: types.ValueType) -> None:
        """A word that is no value: a set's name without `in`, a misspelt constant, or simply wrong."""
        if word.text in self.unread:
            return
        if word.text in self.sets:
            self.error(
                "N035",
                f"`{word.text}` is a set: its members are tested with `in`",
                word.span,
                f"write `in {word.text}`",
            )
            return
        names = {**self.consts, **(self.sets if type.set_type else {})}
        near = closest(word.text, names) if word.text[:1].isalpha() and ":" not in word.text else None
        if error.code == "N033" and near and "did you mean" not in error.help and "numbers:" not in error.help:
            self.error(
                "N020",
                f"`{word.text}` is not {type.what}, and there is no such name",
                word.span,
                f"did you mean `{'in ' if near in self.sets else ''}{near}`?",
            )
            return
        self.findings.literal(error, word.span)


def plural(type: str) -> str:
    return {"address": "addresses", "port": "ports"}.get(type, type)
