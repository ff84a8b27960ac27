"""Rules that change without their tables: the composed program judges as the new text says, rule by rule, and so does the old program once it was told."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from compiler import change, change_index, import_classbench, pipeline, profile
from compiler.bundle import Bundle
from compiler.source import Sources
from compiler.tables import changes
from compiler.tables.changes import Delta
from compiler.targets import c_program
from runtime import changed_rules
from tests.kernel.xdp import classbench, rig
from tests.kernel.xdp.test_classbench import wrong

PACKETS = 1500
EDITS = 14
pytestmark = pytest.mark.skipif(not classbench.SETS, reason="no filter sets in shared/data/classbench")


@dataclass(frozen=True)
class Policy:
    """A policy of a filter set's lines: text[number] of each, and those in force in order."""

    path: Path
    lines: dict[int, classbench.Line]
    text: dict[int, str]
    order: list[int]

    def write(self) -> None:
        body = "\n".join(self.text[number] for number in self.order)
        self.path.write_text(f"# changes\nnic port {{ device port0 }}\nfilter port in {{\n{body}\n  default drop\n}}\n")

    def first(self, headers: list[classbench.Header]) -> list[str]:
        found = classbench.first_lines([self.lines[number] for number in self.order], headers)
        return [f"r{self.order[at - 1]}" if at else "" for at in found]


def _policy(name: str, folder: Path, rng: Random) -> tuple[Policy, list[int]]:
    """A policy of two thirds of the lines, and the lines that are left over."""
    with gzip.open(classbench.DATA / f"{name}.gz", "rt") as source:
        (copy := folder / name).write_text(source.read())
    read = dict(enumerate(classbench.read(copy, {}), 1))
    text = {number: line for line in import_classbench.policy(import_classbench.read(copy), name).split("\n")
            if " as r" in line and not line.lstrip().startswith("#") for number in [int(line.rpartition(" as r")[2])]}  # fmt: skip
    numbers = sorted(text)
    left = sorted(rng.sample(numbers, len(numbers) // 3))
    return Policy(folder / "policy.netc", read, text, [number for number in numbers if number not in set(left)]), left


def _edited(policy: Policy, left: list[int], rng: Random, fixed: set[int]) -> list[int]:
    """Lines go, come, and are replaced, at the top and at the end too."""
    order = list(policy.order)
    for at in (0, len(order) - 1, *rng.sample(range(1, len(order) - 1), EDITS - 2)):
        at, kind = min(at, len(order) - 1), rng.choice(("go", "come", "replace"))
        if kind != "come" and order[at] not in fixed:
            order[at : at + 1] = [left.pop(rng.randrange(len(left)))] if kind == "replace" else [order[at]] * 0
        else:
            order.insert(at, left.pop(rng.randrange(len(left))))
    return order


def _indexed(path: Path) -> tuple[Bundle, change_index.Index]:
    sources = Sources()
    made = pipeline.compile_policy(path, profile.default(), sources)
    tops = change_index.statements(made.statements, str(path), sources)
    index = change_index.make(path, sources, tops, made.program, change_index.profile_digest(None), made.changeable)
    assert index is not None
    return made.bundle, index


@contextmanager
def _loaded(made: Bundle) -> Iterator[rig.Rig]:
    with rig.pinned():
        loaded = rig.Rig(made, "port")
        try:
            yield loaded
        finally:
            loaded.close()


def changed(name: str, folder: Path, seed: int) -> tuple[Bundle, Bundle, Delta, list[classbench.Header], list[str], list[str]]:
    """The bundle, the composed one, what is between them, packets, and what they meet before and after."""
    rng = Random(f"{name} {seed}")
    policy, left = _policy(name, folder, rng)
    policy.write()
    base, index = _indexed(policy.path)
    fixed = {int(rule.name[1:]) for rule in index.changeable.rules if rule.fixed}
    after = Policy(policy.path, policy.lines, policy.text, _edited(policy, left, rng, fixed))
    after.write()
    delta = change.delta(index, "0" * 64, policy.path, change_index.profile_digest(None))
    assert delta.gone and delta.added
    touched = [policy.lines[n] for n in {*policy.order} ^ {*after.order}]
    headers = [*classbench.drawn(rng, list(policy.lines.values()), PACKETS), *classbench.drawn(rng, touched * 9, PACKETS)]
    before, now = policy.first(headers), after.first(headers)
    assert sum(a != b for a, b in zip(before, now, strict=True)) > 50, "this proves nothing"
    return base, changes.compose(base, delta), delta, headers, before, now


@pytest.mark.parametrize("name", ["acl1_1k", "fw1_1k", "ipc1_1k", "fw1_10k"])
def test_a_changed_policy_is_judged_as_its_text_says(name: str, tmp_path: Path) -> None:
    for seed in range(2):
        _, composed, _, headers, _, now = changed(name, tmp_path, seed)
        with _loaded(composed) as loaded:
            assert not wrong(loaded, [header.frame() for header in headers], now, drops=False)


def test_a_running_program_changes_by_one_store_and_back(tmp_path: Path) -> None:
    base, composed, delta, headers, before, now = changed("fw1_1k", tmp_path, 9)
    frames = [header.frame() for header in headers]
    item = next(item for item in base.maps if item.role == "changes")
    with _loaded(base) as loaded:
        fd, names = loaded.objects.maps[item.id], dict(loaded.names)
        for _ in range(3):  # both halves, more than once
            assert not wrong(loaded, frames, before, drops=False)
            changed_rules.publish(fd, item.value_size, delta.half, {})
            assert changed_rules.in_force(fd, item.value_size) == delta.half
            in_force = changed_rules.half_in_force(fd, item.value_size)
            loaded.names = names | {delta.counters + in_force * changes.MOST + rule.nth: rule.name for rule in delta.added}
            assert not wrong(loaded, frames, now, drops=False)
            changed_rules.publish(fd, item.value_size, changed_rules.wanted(item), {})
            loaded.names = names
    assert {counter.name for counter in composed.counters} == {counter.name for counter in base.counters} - set(delta.gone) | {a.name for a in delta.added}


_MUTANTS = {  # the text of changes.h as it is, as it must not be
    "dead rules live": ("& 1)\n\n/* Where", "& 0)\n\n/* Where"),
    "the last address of a range": ("netc_below(CH64(at + 16), CH64(at + 24), hi, lo)", "1 - netc_below(hi, lo, CH64(at + 16), CH64(at + 24))"),
    "a port's span": ("CH32(at + 4) - (u64)", "CH32(at + 4) + 1 - (u64)"),
}


@pytest.mark.parametrize("name", _MUTANTS)
def test_a_mutant_is_caught(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right, mistaken = _MUTANTS[name]
    real = c_program.read_part
    assert right in real("changes.h")
    monkeypatch.setattr("compiler.targets.xdp_changes.read_part", lambda part: real(part).replace(right, mistaken))
    found = []
    for seed in range(4):
        _, composed, _, headers, _, now = changed("fw1_1k", tmp_path, seed)
        with _loaded(composed) as loaded:
            found += wrong(loaded, [header.frame() for header in headers], now, drops=False)
    assert found


def test_entries_behind_all_other_rules_are_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = changes.Entry.encode
    monkeypatch.setattr(changes.Entry, "encode", lambda self, first: (0xFFFFFFF0).to_bytes(4, "little") + real(self, first)[4:])
    found = []
    for seed in range(4):
        _, composed, _, headers, _, now = changed("fw1_1k", tmp_path, seed)
        with _loaded(composed) as loaded:
            found += wrong(loaded, [header.frame() for header in headers], now, drops=False)
    assert found
