"""Conditions that are said to exclude each other are never both true of one packet, whole or broken."""

from __future__ import annotations

from itertools import combinations
from random import Random

import pytest

from compiler import ir
from compiler.interp import Interpreter
from compiler.reach.disjoint import extent
from tests.pure.reach.rules import SETS, packets, program


@pytest.mark.parametrize("seed", range(15))
def test_no_packet_is_in_two_that_exclude_each_other(seed: int) -> None:
    rng = Random(seed)
    made = program(rng, 14)
    rules = [ir.Rule(rule.name, "pass", rule.when) for rule in made.chains[0].rules]
    sets = {item.name: item for item in SETS}
    extents = [extent(rule.when, sets) for rule in rules]
    pairs = [(a, b) for a, b in combinations(range(len(rules)), 2) if extents[a].excludes(extents[b])]
    assert len(pairs) > 5, "this proves nothing"
    alone = [Interpreter(ir.Program(made.nics, SETS, (ir.Chain("wan.in", "wan", "in", None, (rule,), "drop"),))) for rule in rules]
    for frame in packets(made, rng, 200):
        met = {at for at, one in enumerate(alone) if one.judge(frame, "wan", "in", 10**9).rule.startswith("wan.in.r")}
        assert [pair for pair in pairs if met.issuperset(pair)] == [], frame.hex()


@pytest.mark.parametrize(
    ("one", "other", "excluded"),
    [
        (ir.Is("tcp"), ir.Is("udp"), True),
        (ir.Is("tcp"), ir.Within(ir.Field.ICMP_TYPE, ((8, 8),)), True),
        (ir.Is("tcp"), ir.Is("fragment"), False),
        (ir.Within(ir.Field.DPORT, ((1, 9),)), ir.Within(ir.Field.DPORT, ((10, 20),)), True),
        (ir.Within(ir.Field.DPORT, ((1, 9),)), ir.Within(ir.Field.SPORT, ((10, 20),)), False),
        (ir.Not(ir.Within(ir.Field.DPORT, ((1, 9),))), ir.Within(ir.Field.DPORT, ((2, 3),)), True),
        (ir.Member(ir.Field.SRC, "near"), ir.Within(ir.Field.SRC, ((0, 9),)), True),
        (ir.Member(ir.Field.SRC, "banned"), ir.Member(ir.Field.SRC, "near"), False),
        (ir.Bits(ir.Field.TCP_FLAGS, 2, 2), ir.Bits(ir.Field.TCP_FLAGS, 2, 0), True),
    ],
)
def test_plain_cases(one: ir.Expr, other: ir.Expr, excluded: bool) -> None:
    sets = {item.name: item for item in SETS}
    assert extent(one, sets).excludes(extent(other, sets)) == excluded == extent(other, sets).excludes(extent(one, sets))
