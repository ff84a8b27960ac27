"""Sets become fewer where that spares a look-up, and no judgement changes."""

from __future__ import annotations

from random import Random

import pytest

from compiler import ir, ir_spec, passes
from compiler.interp import Interpreter
from compiler.passes import merge_sets
from compiler.targets import nft_sets
from tests.differential.packets import boundary_packets, times
from tests.differential.policies import expression

SRC, DST, TCP = ir.Field.SRC, ir.Field.DST, ir.Is("tcp")


def nets(*numbers: int) -> ir.Ranges:
    return tuple((ir.V4_BASE + (n << 8), ir.V4_BASE + (n << 8) + 127) for n in numbers)


SETS = (
    ir.Set("few", "address", nets(1, 2)),
    ir.Set("odd", "address", nets(*range(1, 21, 2))),
    ir.Set("even", "address", nets(*range(2, 22, 2))),
    ir.Set("odd-again", "address", nets(*range(1, 21, 2))),
    ir.Set("three", "address", nets(3, 5, 7)),
    ir.Set("banned", "address", size=8),
    ir.Set("web", "port", ((80, 80), (443, 443))),
    ir.Set("web-again", "port", ((80, 80), (443, 443))),
)


def asked(when: ir.Expr) -> tuple[ir.Expr, ir.Program]:
    rule = ir.Rule("r", "drop", when)
    made = ir.Program((ir.Nic("wan", "w"),), SETS, (ir.Chain("wan.in", "wan", "in", None, (rule,), "pass"),))
    after, found = merge_sets.run(made)
    ir_spec.check(after)
    assert found == []
    return after.chains[0].rules[0].when, after


def src(name: str) -> ir.Expr:
    return ir.Member(SRC, name)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (src("odd-again"), src("odd")),
        (ir.Not(src("odd-again")), ir.Not(src("odd"))),
        (ir.Member(ir.Field.DPORT, "web-again"), ir.Member(ir.Field.DPORT, "web")),
        (ir.Or((src("odd"), TCP, src("three"))), ir.Or((src("odd"), TCP))),
        (ir.Or((src("odd"), src("odd-again"))), src("odd")),
        (ir.Or((ir.Within(SRC, nets(5)), src("odd"))), src("odd")),
        (ir.And((src("odd"), src("three"))), ir.Within(SRC, nets(3, 5, 7))),
        (ir.And((src("odd"), TCP, ir.Within(SRC, ((ir.V4_BASE, ir.V4_BASE + 600),)))), ir.And((ir.Within(SRC, nets(1)), TCP))),
    ],
)
def test_merging(before: ir.Expr, after: ir.Expr) -> None:
    assert asked(before)[0] == after


@pytest.mark.parametrize(
    "kept",
    [
        ir.Or((src("few"), src("three"))),  # five ranges would be a look-up, four and three are comparisons
        ir.Or((src("odd"), src("banned"))),
        ir.Or((src("odd"), ir.Member(DST, "even"))),
        ir.Or((src("odd"), ir.Not(src("even")))),
        ir.Or((src("odd"), ir.Within(SRC, nets(100)))),  # a set more for a comparison less
        ir.And((src("odd"), src("even"))),  # nothing is in both: `false` is not `absent` under `not`
    ],
)
def test_what_stays(kept: ir.Expr) -> None:
    when, made = asked(kept)
    assert when == kept and made.sets == SETS


def test_a_union_is_a_set_of_its_own_and_shared() -> None:
    both = ir.Or((src("odd"), src("even")))
    when, made = asked(ir.Or((both, ir.And((TCP, ir.Or((src("even"), src("odd-again"))))))))
    assert when == ir.Or((src("odd-or-even"), ir.And((TCP, src("odd-or-even")))))
    assert made.sets == (*SETS, ir.Set("odd-or-even", "address", tuple(sorted((*SETS[1].ranges, *SETS[2].ranges)))))


def test_a_name_that_is_taken_is_not_taken_again() -> None:
    sets = (*SETS, ir.Set("odd-or-even", "address", nets(1000)))
    rule = ir.Rule("r", "drop", ir.Or((src("odd"), src("even"))))
    made = ir.Program((ir.Nic("wan", "w"),), sets, (ir.Chain("wan.in", "wan", "in", None, (rule,), "pass"),))
    after = merge_sets.run(made)[0]
    ir_spec.check(after)
    assert after.chains[0].rules[0].when == src("odd-or-even-2")


def test_nft_holds_equal_sets_once() -> None:
    when, made = asked(ir.And((ir.Member(SRC, "odd"), ir.Member(DST, "odd-again"))))
    assert nft_sets.members(when) == {"odd"} and made.sets == SETS


@pytest.mark.parametrize("seed", range(25))
def test_no_judgement_changes(seed: int) -> None:
    rng = Random(seed)
    rules = tuple(ir.Rule(f"r{n}", "drop", _asking(rng)) for n in range(8))
    made = ir.Program((ir.Nic("wan", "w"),), SETS, (ir.Chain("wan.in", "wan", "in", None, rules, "pass"),))
    after, _ = passes.run(made)
    assert after != made
    interpreters = Interpreter(made), Interpreter(after)
    for frame, now in zip(boundary_packets(made, rng, 250), times(made, rng, 250), strict=True):
        one, other = (interpreter.judge(frame, "wan", "in", now) for interpreter in interpreters)
        assert one == other
    assert interpreters[0].counters == interpreters[1].counters


def _asking(rng: Random) -> ir.Expr:
    names = [item.name for item in SETS if item.type == "address"]
    parts = [ir.Member(rng.choice((SRC, DST)), rng.choice(names)) for _ in range(rng.randint(2, 4))]
    part = rng.choice((ir.And, ir.Or))((*parts, expression(rng, SETS, depth=1)))
    return ir.Or((ir.Not(part), ir.Is("malformed"))) if rng.random() < 0.3 else part


def test_an_absent_address_stays_absent_and_the_mutant_that_makes_it_false_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """`not (src in odd and src in even)` of a frame without addresses is absent: the rule does not match."""
    rule = ir.Rule("r", "drop", ir.Not(ir.And((src("odd"), src("even")))))
    made = ir.Program((ir.Nic("wan", "w"),), SETS, (ir.Chain("wan.in", "wan", "in", None, (rule,), "pass"),))
    frame = bytes(12) + b"\x88\xb5" + bytes(46)
    assert Interpreter(passes.run(made)[0]).judge(frame, "wan", "in", 10**9).verdict == "pass"
    monkeypatch.setattr(merge_sets, "_joined", lambda *_: ir.Const(False))
    assert Interpreter(passes.run(made)[0]).judge(frame, "wan", "in", 10**9).verdict == "drop"
