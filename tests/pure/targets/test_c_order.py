"""Rules are moved only over rules that they exclude, only where less is asked, and what was moved is said."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from compiler import ir, profile
from compiler.interp import Interpreter
from compiler.pipeline import compile_policy
from compiler.reach import disjoint
from compiler.source import NOWHERE, Sources
from compiler.targets import c_expr, c_nest, c_order
from compiler.targets.c_program import CProgram
from tests.differential.packets import times
from tests.pure.reach.rules import SETS, packets, program

_SETS = {item.name: item for item in SETS}


def listed(rules: tuple[ir.Rule, ...]) -> c_nest.Listed[ir.Rule]:
    c = CProgram("wan.xdp", "wan", "xdp", _SETS, NOWHERE)
    return [(rule, c_nest.parts(c_expr.true_when(rule.when, c))) for rule in rules]


def reordered(made: ir.Program) -> ir.Program:
    found, _ = c_order.ordered(listed(made.chains[0].rules), _SETS)
    chain = made.chains[0]
    assert {id(rule) for rule, _ in found} == {id(rule) for rule in chain.rules} and len(found) == len(chain.rules)
    return ir.Program(made.nics, made.sets, (ir.Chain(chain.name, "wan", "in", None, tuple(rule for rule, _ in found), chain.default),))


def differs(made: ir.Program, rng: Random) -> bool:
    """Limits, additions and all: one packet after the other."""
    one, other = Interpreter(made), Interpreter(reordered(made))
    clock = times(made, rng, 200)
    judged = [(one.judge(frame, "wan", "in", now), other.judge(frame, "wan", "in", now)) for frame, now in zip(packets(made, rng, 200), clock, strict=True)]
    return any(a != b for a, b in judged) or one.counters != other.counters


@pytest.mark.parametrize("seed", range(25))
def test_no_judgement_changes(seed: int) -> None:
    assert not differs(program(Random(seed), 20), Random(seed))


def test_rules_are_moved_there_and_less_is_asked() -> None:
    moved = 0
    for seed in range(25):
        rules = program(Random(seed), 20).chains[0].rules
        found, words = c_order.ordered(listed(rules), _SETS)
        moved += bool(words)
        assert (c_order.weight(found) < c_order.weight(listed(rules))) == bool(words)
        assert words or [rule for rule, _ in found] == list(rules)
    assert moved > 5


def test_the_mutant_that_moves_over_any_rule_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disjoint.Extent, "excludes", lambda *_: True)
    assert any(differs(program(Random(seed), 20), Random(seed)) for seed in range(25))


def test_the_plan_says_what_was_moved(tmp_path: Path) -> None:
    rules = "pass tcp dport 22 as ssh\n pass udp dport 53 as dns\n pass tcp dport 80 as web\n drop ip4 as all\n drop tcp dport 81 as stays"
    (tmp_path / "p.netc").write_text(f"nic wan {{ device eth0 }}\nfilter wan in {{\n {rules}\n default drop\n}}\n")
    made = compile_policy(tmp_path / "p.netc", profile.default(), Sources())
    assert any("`web` behind `ssh`: they exclude what they pass" in item.reason for item in made.bundle.placements)
    assert [item.name for item in made.bundle.counters][1:6] == [f"wan.in.{name}" for name in ("ssh", "dns", "web", "all", "stays")]
    code = made.sources["wan.xdp"]
    assert code.index("judged = 5;") < code.index("judged = 4;") < code.index("judged = 6;") < code.index("judged = 7;")


def test_helper_calls_come_last() -> None:
    when = ir.And((ir.Member(ir.Field.SRC, "banned"), ir.Within(ir.Field.DPORT, ((80, 80),)), ir.Is("tcp")))
    asked = listed((ir.Rule("a", "drop", when),))[0][1]
    assert "KIND_tcp" in asked[0] and "HAVE_dport" in asked[1] and "netc_live(" in asked[-1] and len(asked) == 5
