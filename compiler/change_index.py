"""What a later change of a policy has to know of the one that was compiled: its text, and which line is which rule of the tables.

Written beside the bundle when a policy is applied, read by compiler.change. There is none (make gives None) where a change of one rule can reach further
than its own row: several filters in XDP, later stages, steering, included files, rules opened from lists.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import msgspec

from compiler import ir, syntax
from compiler.source import Sources


class Rule(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """A rule of the chain, in its order. counter: its index; bits: of its terms in rows; fixed: it cannot leave or change by itself; alone: nothing
    else is on its line."""

    line: int
    counter: int
    name: str
    passes: bool
    fixed: bool
    bits: tuple[int, ...] = ()
    alone: bool = False


class Statement(msgspec.Struct, frozen=True, array_like=True):
    """A statement of the policy's top level: its kind (nic, set, const, rules, ...), name and lines, both inclusive."""

    kind: str
    name: str
    first: int
    last: int


class Changeable(msgspec.Struct, frozen=True):
    """A program whose map takes changes. counters: room of its slot table; up_to, words: as tables.changes.Layout; fields: what its entries may ask for."""

    program: str
    map: str
    counters: int
    up_to: int
    words: int
    fields: tuple[str, ...]
    chain: str
    rules: tuple[Rule, ...]


class Index(msgspec.Struct, frozen=True):
    """compiler: the digest of the compiler's own files; profile: of the capability profile; files: (name, SHA-256) of the others that were read.

    text: of the policy, without a mark of its byte order; filter: the number of its statement; default: the line of the filter's default.
    also: what was proved beside the policy's own promises (also_protect.named).
    """

    compiler: str
    profile: str
    file: str
    text: str
    files: tuple[tuple[str, str], ...]
    nics: dict[str, str]
    statements: tuple[Statement, ...]
    filter: int
    default: int
    protects: bool
    changeable: Changeable
    also: tuple[str, ...] = ()


@cache
def compiler_digest() -> str:
    """Of names, sizes and times of the compiler's files: another compiler reads a policy anew."""
    whole = hashlib.sha256()
    for name, size, time in sorted(_files(os.path.dirname(__file__))):
        whole.update(f"{name} {size} {time}\n".encode())
    return whole.hexdigest()


def _files(folder: str) -> Iterator[tuple[str, int, int]]:
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir():
                yield from _files(entry.path)
            elif entry.name.endswith((".py", ".h", ".json")):
                found = entry.stat()
                yield entry.path, found.st_size, found.st_mtime_ns


def profile_digest(target: str | None) -> str:
    """Of the capability profile's file. Raises ProfileError."""
    from compiler import profile

    return hashlib.sha256(profile.path_of(target).read_bytes()).hexdigest()


def statements(nodes: Sequence[syntax.Statement], file: str, sources: Sources) -> tuple[Statement, ...]:
    """The top level of the policy's own file; kind "" for what does not begin its line or has come from another file."""
    found = []
    for number, node in enumerate(nodes):
        place = node.span
        own = place.file == file and not (sources.line(file, place.line) or "")[: place.column - 1].strip()
        name = getattr(node, "name", None)
        after = nodes[number + 1].span.line - 1 if number + 1 < len(nodes) else sources.length(file)
        kind = type(node).__name__.lower() if own else ""
        found.append(Statement(kind, name.text if isinstance(name, syntax.Word) else "", place.line, after))
    return tuple(found)


def make(path: Path, sources: Sources, tops: Sequence[Statement], program: ir.Program, profile: str, changeable: Sequence[Changeable],
         also: tuple[str, ...] = ()) -> Index | None:  # fmt: skip
    """The index of a compiled policy, None where its rules cannot change one by one."""
    if len(changeable) != 1 or program.steers or not all(top.kind for top in tops):
        return None
    chain = next(chain for chain in program.chains if chain.name == changeable[0].chain)
    blocks = [n for n, top in enumerate(tops) if top.kind == "filter" and top.first == chain.span.line]
    texts = sources.all_texts()
    text = texts.get(str(path), "")
    if len(blocks) != 1 or sum(other.span == chain.span for other in program.chains) > 1 or not _in_order(chain, tops[blocks[0]]):
        return None
    files = tuple((name, _sha256(content)) for name, content in texts.items() if name != str(path))
    nics = {nic.name: nic.device for nic in program.nics}
    own = msgspec.structs.replace(changeable[0], rules=_on_own_lines(changeable[0].rules, chain, text))
    return Index(
        compiler_digest(), profile, str(path), text, files, nics, tuple(tops), blocks[0], chain.default_span.line, bool(program.protects), own, also
    )


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _in_order(chain: ir.Chain, block: Statement) -> bool:
    """Every rule stands in the filter itself, and behind the one before."""
    places = [rule.span for rule in chain.rules]
    here = all(place.file == chain.span.file and block.first < place.line <= block.last for place in places)
    return here and all(a.line <= b.line for a, b in pairwise(places))


def _on_own_lines(rules: Sequence[Rule], chain: ir.Chain, text: str) -> tuple[Rule, ...]:
    """Rules that share a line with anything else, or have more than one, stay where they are."""
    lines = text.split("\n")
    texts = {rule.name: rule.text for rule in chain.rules}

    def described(rule: Rule) -> Rule:
        alone = " ".join(lines[rule.line - 1].split()) == texts[rule.name]
        return Rule(rule.line, rule.counter, rule.name, rule.passes, rule.fixed or not alone, rule.bits, alone)

    return tuple(map(described, rules))
