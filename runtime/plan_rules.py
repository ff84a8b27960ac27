"""Which rules of one bundle another one changes: by name, with their texts, the stage that judges them, and their order. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from compiler.bundle import Bundle
from runtime.plan_entry import ADDED, CHANGED, REMOVED, Entry

_BACKENDS = {"xdp": "xdp", "steer": "xdp", "ingress": "nft", "conntrack": "nft", "egress": "nft"}


@dataclass(frozen=True, slots=True)
class _Rule:
    """stages: all that judge it, the first one first."""

    name: str
    kind: str
    text: str
    stages: tuple[str, ...]
    file: str
    line: int

    @property
    def chain(self) -> str:
        return self.name.rpartition(".")[0]

    @property
    def backend(self) -> str:
        return _BACKENDS.get(self.stages[0], "xdp")

    def entry(self, sign: str, was: str = "", note: str = "") -> Entry:
        return Entry(self.backend, sign, self.kind, self.name, self.text, was, note, self.file, self.line)


def differences(old: Bundle | None, new: Bundle | None) -> list[Entry]:
    """Rules and defaults that come, change, move or go, in the order of the new policy; then those that go."""
    had, wanted = _rules(old), _rules(new)
    entries: list[Entry] = []
    for name, rule in wanted.items():
        if name not in had:
            entries.append(rule.entry(ADDED))
        elif rule.text != had[name].text:
            entries.append(rule.entry(CHANGED, had[name].text, _moved_stage(had[name], rule)))
        elif note := _moved_stage(had[name], rule):
            entries.append(rule.entry(CHANGED, note=note))
    entries += _moved_rules(had, wanted)
    return entries + [rule.entry(REMOVED) for name, rule in had.items() if name not in wanted]


def _rules(bundle: Bundle | None) -> dict[str, _Rule]:
    found: dict[str, _Rule] = {}
    for counter in bundle.counters if bundle else ():
        if counter.kind not in ("rule", "default"):
            continue
        before = found.get(counter.name)
        text = (before.text if before else "") or counter.text or (f"default {counter.verdict}" if counter.kind == "default" else "")
        stages = (*(before.stages if before else ()), counter.stage)
        found[counter.name] = _Rule(counter.name, counter.kind, text, stages, counter.file, counter.line)
    return found


def _moved_stage(old: _Rule, new: _Rule) -> str:
    if set(old.stages) == set(new.stages):
        return ""
    return f"judged by {' and '.join(new.stages)}, was {' and '.join(old.stages)}"


def _moved_rules(had: dict[str, _Rule], wanted: dict[str, _Rule]) -> list[Entry]:
    """Rules that stand elsewhere among those that stay: the fewest of which that can be said."""
    chains: dict[str, list[_Rule]] = {}
    for rule in wanted.values():
        if rule.kind == "rule" and rule.name in had:
            chains.setdefault(rule.chain, []).append(rule)
    entries = []
    for rules in chains.values():
        after, before = _in_order(rules), _in_order([had[rule.name] for rule in rules])
        places = {name: number for number, name in enumerate(before)}
        stay = _longest_ascending([places[name] for name in after])
        for at, name in enumerate(after):
            if at not in stay:
                where = f"behind {after[at - 1].rpartition('.')[2]}" if at else "first"
                entries.append(wanted[name].entry(CHANGED, note=f"moved: now {where}"))
    return entries


def _in_order(rules: Sequence[_Rule]) -> list[str]:
    """The names as the policy has them: by line where all stand in one file (a stage's counters stand apart from the next one's)."""
    one_file = len({rule.file for rule in rules}) == 1
    return [rule.name for rule in (sorted(rules, key=lambda rule: rule.line) if one_file else rules)]


def _longest_ascending(numbers: Sequence[int]) -> set[int]:
    """The positions of a longest ascending subsequence."""
    ends: list[int] = []  # position of the least last number of a sequence of each length
    before: list[int] = []
    for at, number in enumerate(numbers):
        length = bisect_left(ends, number, key=lambda end: numbers[end])
        before.append(ends[length - 1] if length else -1)
        ends[length : length + 1] = [at]
    found: set[int] = set()
    at = ends[-1] if ends else -1
    while at >= 0:
        found.add(at)
        at = before[at]
    return found
