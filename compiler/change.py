"""A changed policy → what of a live policy's tables has to change (tables.changes), without reading the rules that stayed.

The new text is held against the old one by the line. Rules that left are marked dead; rules that came are read by the same front end as always, in a
text that has their lines, the declarations and nothing else. Whatever is not surely the same as compiling all of it raises Whole.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

from compiler import change_entries, check_filter, ir, resolve, setfile, syntax
from compiler.change_entries import Whole
from compiler.change_index import Index, Rule, compiler_digest
from compiler.diagnostics import CompileError
from compiler.findings import Findings, LiteralError
from compiler.source import Sources
from compiler.tables import changes
from compiler.tables.changes import Added, Delta, Layout, Lines

if TYPE_CHECKING:
    from compiler.also_protect import Flow

_WORD = re.compile(r"[A-Za-z0-9_.-]+")
_QUIET = re.compile(r"\s*(#.*)?")
_MOST_LINES = 8 * changes.MOST  # with comments
_DECLARATIONS = ("nic", "const", "set", "protect")


@dataclass(frozen=True, slots=True)
class _Hunk:
    """Lines first..last of the old text (from 0, last exclusive) that became lines new_first..new_last."""

    first: int
    last: int
    new_first: int
    new_last: int


def delta(index: Index, base: str, policy: Path, profile: str, also: Flow | None = None) -> Delta:
    """From the compiled policy of the index (bundle `base`) to what `policy` says now; `also` is to be protected, too. Raises Whole."""
    extra = _also_proved(index, also)
    texts = _texts(index, policy, profile)
    old, new = index.text.split("\n"), texts[0].split("\n")
    hunks = list(_hunks(old, new)) if old != new else []
    block = index.statements[index.filter]
    if any(not (block.first < hunk.first + 1 and hunk.last < index.default) for hunk in hunks):
        raise Whole("something beside the rules of one filter has changed")
    gone = _gone(index, old, hunks)
    wanted = {n + 1 for hunk in hunks for n in range(hunk.new_first, hunk.new_last)}
    came = _Reader(index, new, hunks).rules(wanted) if wanted else []
    _check_names(index, gone, [rule for _, rule, _ in came])
    if index.protects or extra:
        _check_protects(index, old, new, hunks, gone, extra)
    return _delta(index, base, texts, hunks, gone, came)


def _also_proved(index: Index, also: Flow | None) -> tuple[ir.Protect, ...]:
    """What the flow is on the policy's nics. It was proved of the tables' rules, or has to be proved of all: it may be cut already."""
    if also is None:
        return ()
    from compiler.also_protect import named

    extra = also.protects(index.nics)
    if not {named(protect) for protect in extra} <= set(index.also):
        raise Whole("the connection that the command is run over was not proved when the policy was applied")
    return extra


def _texts(index: Index, policy: Path, profile: str) -> list[str]:
    """The policy's text and the other files', in the order of reading."""
    if index.compiler != compiler_digest() or index.profile != profile or index.file != str(policy):
        raise Whole("the compiler, the capability profile or the policy's place is another one")
    try:
        texts = [setfile.read_text(policy, setfile.MAX_POLICY_FILE)]
        for name, digest in index.files:
            texts.append(setfile.read_text(Path(name), setfile.MAX_SET_FILE))
            if hashlib.sha256(texts[-1].encode()).hexdigest() != digest:
                raise Whole(f"{name} has changed")
    except LiteralError as error:
        raise Whole(str(error)) from None
    return texts


def _hunks(old: Sequence[str], new: Sequence[str]) -> Iterator[_Hunk]:
    """Where the texts differ, in order. Raises Whole for so many new lines that there is no use in looking for the others."""
    head = next((n for n, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    most = min(len(old), len(new)) - head
    tail = next((n for n in range(most) if old[-1 - n] != new[-1 - n]), most)
    before, after = old[head : len(old) - tail], new[head : len(new) - tail]
    if len(before) <= 1 or len(after) <= 1:
        yield _Hunk(head, head + len(before), head, head + len(after))
        return
    if len(set(after) - set(before)) > _MOST_LINES:
        raise Whole("much of the policy has changed")
    from difflib import SequenceMatcher  # only where more than one line has changed

    # Lines that stand there often (blank ones: never two equal rules) are not matched, or it would take the square of their number.
    for kind, first, last, new_first, new_last in SequenceMatcher(None, before, after).get_opcodes():
        if kind != "equal":
            yield _Hunk(head + first, head + last, head + new_first, head + new_last)


def _gone(index: Index, old: Sequence[str], hunks: Sequence[_Hunk]) -> list[Rule]:
    by_line = {rule.line: rule for rule in index.changeable.rules}
    gone = []
    for number in (number for hunk in hunks for number in range(hunk.first, hunk.last)):
        rule = by_line.get(number + 1)
        if rule is None and not _QUIET.fullmatch(old[number]) or rule is not None and rule.fixed:
            raise Whole(f"line {number + 1} of the applied policy is not a rule of the tables that can leave by itself")
        if rule is not None:
            gone.append(rule)
    return gone


class _Reader:
    """Reads some lines of a text as rules of the filter, with the declarations that they may name."""

    def __init__(self, index: Index, lines: Sequence[str], hunks: Sequence[_Hunk]) -> None:
        """hunks: how the text came about; none for the indexed text itself."""
        self.index, self.lines, self.hunks = index, lines, hunks

    def rules(self, wanted: set[int]) -> list[tuple[int, ir.Rule, dict[str, ir.Set]]]:
        """The rules on these lines (from 1), in order: (line, rule, the sets). Raises Whole for anything else that stands there."""
        program, nodes, kept = self.program(wanted)
        chain = next(chain for chain in program.chains if chain.name == self.index.changeable.chain)
        places = [node.span for node in nodes if isinstance(node, syntax.Rule)]
        read = {kept[line - 1] for place in places for line in range(place.line, place.end_line + 1)}
        if any(line not in read and not _QUIET.fullmatch(self.lines[line - 1]) for line in wanted):
            raise Whole("more than rules has changed")
        sets = {item.name: item for item in program.sets}
        return [(line, rule, sets) for rule in chain.rules if (line := kept[rule.span.line - 1]) in wanted]

    def program(self, wanted: set[int]) -> tuple[ir.Program, list[syntax.Node], list[int]]:
        """A program of the declarations, the filter without the rules that stayed, and the wanted lines. The filter's items; the lines that were read."""
        sources, findings = Sources(), Findings()
        findings.file(self.index.file)
        kept = self._kept(wanted)
        text = "\n".join(self.lines[line - 1] for line in kept)
        statements = resolve.read_lines(Path(self.index.file), text, sources, findings)
        scope = resolve.declare(statements, sources, findings)
        blocks = [item for item in statements if isinstance(item, syntax.Filter)]
        chains = check_filter.chains(scope, blocks)
        protects: tuple[ir.Protect, ...] = ()
        if self.index.protects:
            from compiler import check_promises

            protects = check_promises.protects(scope, [item for item in statements if isinstance(item, syntax.Protect)])
        try:
            findings.check()
        except CompileError:
            raise Whole("there is an error in what has changed") from None
        return ir.Program(tuple(scope.nics.values()), tuple(scope.sets.values()), chains, protects=protects), [i for b in blocks for i in b.items], kept

    def _kept(self, wanted: set[int]) -> list[int]:
        """The lines to read, ascending: the filter without the rules that stay, and the declarations that these lines may name."""
        block = self.index.statements[self.index.filter]
        first, last = block.first, self._now(block.last)
        stay = {line for line in map(self._now, (rule.line for rule in self.index.changeable.rules if rule.alone)) if line}
        kept = {line for line in range(first, last + 1) if line in wanted or line not in stay}
        words = self._words(kept)
        for statement in reversed(self.index.statements):
            if statement.kind in _DECLARATIONS and (statement.kind != "set" or statement.name in words):
                lines = set(range(self._now(statement.first), self._now(statement.last) + 1))
                kept |= lines
                words |= self._words(lines)
        return sorted(kept)

    def _words(self, lines: Iterable[int]) -> set[str]:
        return {word for line in lines for word in _WORD.findall(self.lines[line - 1])}

    def _now(self, line: int) -> int:
        """Where a line of the indexed text stands in this one; 0 for one that is gone."""
        by = 0
        for hunk in self.hunks:
            if hunk.first < line <= hunk.last:
                return 0
            if line > hunk.last:
                by = hunk.new_last - hunk.last
        return line + by


def _check_names(index: Index, gone: Sequence[Rule], came: Sequence[ir.Rule]) -> None:
    left = {rule.name for rule in gone}
    stay = {rule.name for rule in index.changeable.rules if rule.name not in left}
    if any(rule.name in stay or rule.name in changes.OWN for rule in came):
        raise Whole("a new rule has the name of another counter")
    lines = index.text.split("\n")
    for statement in index.statements:
        if statement.kind in ("expect", "test"):
            words = set(_WORD.findall("\n".join(lines[statement.first - 1 : statement.last])))
            if {part for word in words for part in (word, word.rpartition(".")[2])} & left:
                raise Whole(f"a rule that leaves is named in the `{statement.kind}` on line {statement.first}")


def _check_protects(
    index: Index, old: Sequence[str], new: Sequence[str], hunks: Sequence[_Hunk], gone: Sequence[Rule], extra: Sequence[ir.Protect]
) -> None:
    """What is protected stays so where no drop that came and no pass that left can meet it."""
    from compiler.space import Space, whole_shapes

    passing = {rule.line for rule in gone if rule.passes}
    came = {n + 1 for hunk in hunks for n in range(hunk.new_first, hunk.new_last)}
    for lines, wanted, known, verdict in ((new, came, hunks, "drop"), (old, passing, (), "pass")):
        if not wanted:
            continue
        program, _, kept = _Reader(index, lines, known).program(wanted)
        space = Space(program)
        rules = [rule for chain in program.chains for rule in chain.rules if kept[rule.span.line - 1] in wanted and rule.verdict == verdict]
        for protect, shape, rule in product((*program.protects, *extra), whole_shapes(), rules):
            region = space.may(protect.when, shape)
            if region and region.intersect(space.may(rule.when, shape)):
                raise Whole("a rule that has changed can meet protected packets: the proof needs all rules")


def _delta(
    index: Index, base: str, texts: Sequence[str], hunks: Sequence[_Hunk], gone: Sequence[Rule], came: Sequence[tuple[int, ir.Rule, dict[str, ir.Set]]]
) -> Delta:
    own = index.changeable
    entries = [entry for nth, (line, rule, sets) in enumerate(came) for entry in change_entries.of_rule(index.changeable, _before(index, hunks, line), nth, rule, sets)]
    if len(entries) > changes.MOST or len(came) > changes.MOST:
        raise Whole(f"{len(came)} rules with {len(entries)} boxes have changed since the tables were built; {changes.MOST} are possible")
    layout = Layout(own.up_to, own.words)
    content = changes.half(layout, own.counters, entries, [rule.counter for rule in gone], [bit for rule in gone for bit in rule.bits])
    added = tuple(Added(f"{own.chain}.{rule.name}", nth, rule.verdict, line, rule.text) for nth, (line, rule, _) in enumerate(came))
    names = tuple(f"{own.chain}.{rule.name}" for rule in gone)
    new = texts[0].split("\n")
    lines = tuple(Lines(hunk.first, hunk.last, tuple(new[hunk.new_first : hunk.new_last])) for hunk in hunks)
    return Delta(base, _digest(texts), own.map, own.program, own.chain, own.counters, content, added, names, lines, Path(index.file).name, index.nics)


def _before(index: Index, hunks: Sequence[_Hunk], line: int) -> int:
    """The counter of the tables' rule that a new line stands in front of."""
    hunk = next(hunk for hunk in hunks if hunk.new_first < line <= hunk.new_last)
    return next((rule.counter for rule in index.changeable.rules if rule.line > hunk.last), index.changeable.up_to)


def _digest(texts: Iterable[str]) -> str:
    sources = Sources()
    for number, text in enumerate(texts):
        sources.add(str(number), text)
    return sources.digest()
