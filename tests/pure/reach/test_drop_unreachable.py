"""Rules that are dropped change no judgement, no counter and no name; what a stage could judge otherwise stays."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest

from compiler import ir, ir_spec, ir_text, place, profile
from compiler.interp import Interpreter
from compiler.passes import drop_unreachable
from compiler.pipeline import Compilation, compile_policy
from compiler.source import Sources
from compiler.space import whole_shapes
from tests.differential.packets import times
from tests.pure.reach.rules import packets, program

TARGET = profile.chosen("")
HEAD = """nic wan { device eth0; xdp MODE }
set banned : address timeout 10m never own
set own = { 192.0.2.1 }
filter wan in {
"""


def dropped(made: ir.Program) -> tuple[place.Placed, place.Placed]:
    placed = place.place(made, TARGET)
    return placed, drop_unreachable.run(placed)[0]


def counted(made: ir.Program, frames: list[bytes], clock: list[int], split: dict[str, int] | None = None) -> tuple[list[object], dict[str, list[int]]]:
    interpreter = Interpreter(made, split)
    return [interpreter.judge(frame, "wan", "in", now) for frame, now in zip(frames, clock, strict=True)], interpreter.counters


@pytest.mark.parametrize("stateful", [False, True])
@pytest.mark.parametrize("seed", range(20))
def test_no_judgement_changes(seed: int, stateful: bool) -> None:
    rng = Random(seed)
    made = program(rng, 20, stateful)
    made = replace(made, chains=tuple(replace(c, rules=tuple(r for r in c.rules if not (stateful and _only_early(r)))) for c in made.chains))
    placed, after = dropped(made)
    ir_spec.check(after.program)
    assert ir_text.parse(ir_text.dump(after.program)) == after.program
    assert after.nics[0].chains[0].split == placed.nics[0].chains[0].split
    frames, clock = packets(made, rng, 250), times(made, rng, 250)
    for split in (None, {"wan.in": placed.nics[0].chains[0].split}):
        assert counted(made, frames, clock, split) == counted(after.program, frames, clock, split)


def _only_early(rule: ir.Rule) -> bool:
    """What place refuses behind the first stateful rule."""
    return rule.limit is not None or "fragment" in repr(rule.when)


def test_rules_are_dropped_there() -> None:
    """Else the test above would hold nothing."""
    gone = [rule for seed in range(20) for rule in dropped(program(Random(seed), 20))[1].program.chains[0].rules if rule.covered]
    assert len(gone) > 60 and sum(len(rule.covered) > 1 for rule in gone) > 15
    assert all(rule.when == ir.Const(False) and not rule.limit and not rule.effects for rule in gone)


def test_the_mutant_that_goes_by_whole_packets_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    rules = (
        ir.Rule("ports", "drop", ir.Within(ir.Field.DPORT, ((0, 65535),))),
        ir.Rule("fragments", "drop", ir.Is("fragment")),
        ir.Rule("udp", "pass", ir.And((ir.Is("ip4"), ir.Is("udp")))),
    )
    made = ir.Program((ir.Nic("wan", "w"),), chains=(ir.Chain("wan.in", "wan", "in", None, rules, "drop"),))
    cut_short = [bytes(12) + b"\x08\x00" + bytes.fromhex("4500002000000000401100000a0000010a000002") + b"\x12\x34\x00"]
    before = counted(made, cut_short, [10**9])
    assert counted(dropped(made)[1].program, cut_short, [10**9]) == before
    monkeypatch.setattr(drop_unreachable, "every_shape", whole_shapes)
    assert counted(dropped(made)[1].program, cut_short, [10**9]) != before


Compiled = Callable[..., Compilation]


@pytest.fixture
def compiled(tmp_path: Path) -> Compiled:
    def compile_(rules: str, mode: str = "native") -> Compilation:
        (tmp_path / "p.netc").write_text(HEAD.replace("MODE", mode) + rules + "\n  default drop\n}\n")
        return compile_policy(tmp_path / "p.netc", TARGET, Sources())

    return compile_


def gone(made: Compilation) -> list[str]:
    rules = [rule for chain in made.placed.program.chains for rule in chain.rules]
    assert {f"wan.in.{rule.name}" for rule in rules} <= {counter.name for counter in made.bundle.counters}, "a counter lost its name"
    return [rule.name for rule in rules if rule.covered]


def test_what_is_dropped_is_reported_with_what_covers_it(compiled: Compiled) -> None:
    made = compiled("pass tcp dport 0-99 as low\n drop tcp dport 100-65535 as high\n pass tcp dport 50-200 as between")
    assert gone(made) == ["between"]
    assert {p.what: p.reason for p in made.bundle.placements}["wan.in.between"] == "not lowered: `low`, `high` together take every packet that it matches"
    found = [item for item in made.warnings if item.code == "W005"]
    assert [(item.span.line, "`low`, `high`" in item.message, len(item.notes)) for item in found] == [(7, True, 2)]
    code = next(text for name, text in made.sources.items() if name == "wan.xdp")
    assert "p->judged = 3;" in code and "p->judged = 5;" not in code, "it is still in the program"


def test_more_rules_than_the_lint_looks_at(compiled: Compiled) -> None:
    rules = "\n".join(f"pass tcp dport {n} as r{n}" for n in range(300))
    made = compiled(f"{rules}\n drop tcp dport 10-20 as again")
    assert gone(made) == ["again"]
    assert ["`r10`" in item.message for item in made.warnings if item.code == "W005"] == [True]


@pytest.mark.parametrize(
    ("rules", "mode", "expected"),
    [
        ("pass tcp dport 22 as a\n drop tcp dport 22 src 10.0.0.0/8 as b", "native", ["b"]),
        ("pass tcp dport 22 as a\n drop tcp dport 22 src 10.0.0.0/8 as b", "none", []),  # nft drops what it cannot read, where a rule might
        ("drop tcp dport 22 as a\n pass tcp dport 22 src 10.0.0.0/8 as b", "none", ["b"]),
        ("drop tcp dport 0-99 as a\n drop tcp dport 100-65535 as b\n drop tcp dport 9-200 as c", "none", []),
        ("drop tcp dport 22 as a\n pass established as e\n drop tcp dport 22 as b", "native", []),  # fragments come together in between
        ("pass established as e\n drop tcp dport 22 as a\n drop tcp dport 22 src 10.0.0.0/8 as b", "native", ["b"]),
        ("pass tcp dport 22 limit 10pps as a\n pass tcp dport 22 as b", "native", []),
        ("pass udp as a\n drop udp src in banned as b", "native", []),  # the set would be gone from `netc set`
        ("drop src in banned as z\n pass udp as a\n drop udp src in banned as b", "native", ["b"]),
        ("pass udp as a\n drop udp dport 9 as b then add src to banned", "native", []),
        ("drop icmp6 as a\n pass nd as b", "native", []),  # control traffic is not asked about the first
        ("pass nd as a\n pass nd ttl 255 as b", "native", ["b"]),
        ("drop tcp as a\n drop tcp malformed as b", "native", ["b"]),
        ("drop tcp dport 0-65535 as a\n drop tcp not fragment as b", "native", []),  # a header that is cut short has no port
        ("drop tcp dport 0-65535 as a\n drop tcp not fragment not malformed as b", "native", ["b"]),
    ],
)
def test_what_goes_and_what_stays(compiled: Compiled, rules: str, mode: str, expected: list[str]) -> None:
    assert gone(compiled(rules, mode)) == expected
