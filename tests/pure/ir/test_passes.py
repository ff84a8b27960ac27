"""Passes make expressions smaller and change no judgement, counter for counter."""

from __future__ import annotations

from random import Random

import pytest

from compiler import ir, passes
from compiler.interp import Interpreter
from compiler.passes.fold_constants import fold
from compiler.passes.merge_ranges import merge
from tests.differential.packets import boundary_packets, times
from tests.differential.policies import random_program

TRUE, FALSE = ir.Const(True), ir.Const(False)
TCP, ARP = ir.Is("tcp"), ir.Is("arp")
DPORT, SPORT = ir.Field.DPORT, ir.Field.SPORT


def ports(*ranges: tuple[int, int]) -> ir.Within:
    return ir.Within(DPORT, ranges)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ir.And((TCP, TRUE)), TCP),
        (ir.And((TCP, FALSE)), FALSE),
        (ir.And((ports((1, 1)), FALSE)), FALSE),
        (ir.Or((TCP, FALSE)), TCP),
        (ir.Or((ports((1, 1)), TRUE)), TRUE),
        (ir.Or((ARP, TRUE)), ir.Or((ARP, TRUE))),  # the name makes the rule judge ARP
        (ir.And((ARP, FALSE)), FALSE),
        (ir.Not(TRUE), FALSE),
        (ir.Not(ir.Not(TCP)), TCP),
        (ir.Not(ir.Not(ARP)), ir.Not(ir.Not(ARP))),  # under `not` it does not judge ARP, without it would
        (ir.And((TCP, ir.And((ports((1, 1)), TCP)))), ir.And((TCP, ports((1, 1))))),
        (ir.And((TRUE, TRUE)), TRUE),
    ],
)
def test_folding(before: ir.Expr, after: ir.Expr) -> None:
    assert fold(before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (ir.Or((ports((1, 2)), TCP, ports((3, 4)))), ir.Or((ports((1, 4)), TCP))),
        (ir.And((ports((1, 9)), ports((5, 20)))), ports((5, 9))),
        (ir.And((ports((1, 2)), ports((5, 6)))), ir.And((ports((1, 2)), ports((5, 6))))),
        (ir.Or((ports((1, 2)), ir.Within(SPORT, ((3, 4),)))), ir.Or((ports((1, 2)), ir.Within(SPORT, ((3, 4),))))),
    ],
)
def test_merging(before: ir.Expr, after: ir.Expr) -> None:
    assert merge(before) == after


def test_everything_with_an_expression_is_rewritten() -> None:
    when = ir.And((TCP, TRUE))
    classes = (ir.Class("a", when, classes=(ir.Class("b", when), ir.Class("c", None))), ir.Class("d", None))
    program = ir.Program(
        nics=(ir.Nic("wan", "w"),),
        chains=(ir.Chain("wan.in", "wan", "in", None, (ir.Rule("a", "pass", when),), "drop"),),
        steers=(ir.Steer("wan.steer", "wan", (ir.SteerRule("a", when, ir.Target("queues", (0,))),)),),
        shapes=(ir.Shape("wan.shape.in", "wan", "in", 9, 0, classes),),
        protects=(ir.Protect("wan", when),),
    )
    made, found = passes.run(program)
    assert found == []
    top = made.shapes[0].classes[0]
    assert [
        made.chains[0].rules[0].when,
        made.steers[0].rules[0].when,
        top.when,
        top.classes[0].when,
        made.protects[0].when,
    ] == [TCP] * 5
    assert (top.classes[1].when, made.shapes[0].classes[1].when) == (None, None)


@pytest.mark.parametrize("seed", range(30))
def test_no_judgement_changes(seed: int) -> None:
    rng = Random(seed)
    program = random_program(rng)
    optimised, _ = passes.run(program)
    before, after = Interpreter(program), Interpreter(optimised)
    for frame, now in zip(boundary_packets(program, rng, 300), times(program, rng, 300), strict=True):
        assert before.judge(frame, "wan", "in", now) == after.judge(frame, "wan", "in", now)
    assert before.counters == after.counters
