"""Expressions and sets on their way to C: three values become two, names stay behind, prefixes cover exactly."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler import ir, place
from compiler.diagnostics import CompileError
from compiler.source import Span
from compiler.tables import members
from compiler.targets import c_expr, c_sets, xdp
from compiler.targets.c_program import CProgram, map_id, referred_maps

F = ir.Field
ABSENT = ir.Connection(("established",))
TRUE, FALSE = ir.Const(True), ir.Const(False)
_VALUES: dict[bool | None, ir.Expr] = {None: ABSENT, True: TRUE, False: FALSE}


def program() -> CProgram:
    return CProgram("wan.xdp", "wan", "xdp", {"nobody": ir.Set("nobody", "address"), "ports": ir.Set("ports", "port", size=4)})


def kleene_and(values: tuple[bool | None, ...]) -> bool | None:
    return False if False in values else None if None in values else True


@given(st.lists(st.sampled_from([None, True, False]), min_size=0, max_size=4))
def test_and_or_not_are_kleenes(values: list[bool | None]) -> None:
    items = tuple(_VALUES[value] for value in values)
    expected = kleene_and(tuple(values))
    other = kleene_and(tuple(None if v is None else not v for v in values))
    opposite = None if other is None else not other
    for expr, wanted in ((ir.And(items), expected), (ir.Or(items), opposite)):
        assert (c_expr.true_when(expr, program()), c_expr.false_when(expr, program())) == (str(int(wanted is True)), str(int(wanted is False)))
        assert c_expr.true_when(ir.Not(expr), program()) == c_expr.false_when(expr, program())


def test_a_field_is_asked_for_its_presence_also_under_not() -> None:
    literal = ir.Within(F.DPORT, ((22, 22),))
    assert c_expr.true_when(literal, program()) == "((p->have & HAVE_dport) && (p->dport == 22u))"
    assert c_expr.true_when(ir.Not(literal), program()) == "((p->have & HAVE_dport) && !(p->dport == 22u))"


def test_an_empty_set_matches_nothing_and_its_not_what_has_an_address() -> None:
    member = ir.Member(F.SRC, "nobody")
    assert c_expr.true_when(member, program()) == "0"
    assert c_expr.true_when(ir.Not(member), program()) == "(p->src.at.family == 4 || p->src.at.family == 6)"


def test_a_dynamic_set_of_ports_is_an_error_that_says_what_to_do() -> None:
    with pytest.raises(CompileError, match="N903.*ports"):
        c_sets.dynamic_set(program(), ir.Set("ports", "port", size=4))


def test_control_kinds_count_only_outside_not() -> None:
    expr = ir.Or((ir.Not(ir.Is("arp")), ir.And((ir.Is("nd"), ir.Is("tcp")))))
    assert c_expr.control_mask(expr) == "KIND_nd"
    assert c_expr.control_mask(ir.Not(ir.Not(ir.Is("l2")))) == ""


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_prefixes_cover_a_range_exactly(a: int, b: int) -> None:
    low, high = min(a, b), max(a, b)
    at = low
    for first, length in members.prefixes(low, high, 32):
        assert first == at and first % (1 << 32 - length) == 0
        at = first + (1 << 32 - length)
    assert at == high + 1


def test_the_whole_space_is_one_prefix_of_each_family() -> None:
    assert list(members.prefixes(0, 2**32 - 1, 32)) == [(0, 0)]
    assert c_sets.by_family(((5, ir.V4_LAST),)) == (((0, 2**32 - 1),), ((5, ir.V4_BASE - 1),))


def test_names_of_the_policy_never_reach_c() -> None:
    """Whatever a name holds, C is numbers and netc's own identifiers: the text is the same for other names."""

    def source(suffix: str) -> str:
        span = Span(f"/etc/{suffix}", 1, 1, 1, 1)
        sets = (ir.Set(f"banned{suffix}", "address", (), 4, None, (), "keep", span),)
        rules = (
            ir.Rule(f"r{suffix}", "drop", ir.Member(F.SRC, f"banned{suffix}"), ir.Limit(f"l{suffix}", 1000, 2, False, F.SRC), (), f'"; {suffix}', span),
        )
        nic = ir.Nic(f"wan{suffix}", f"eth{suffix}"[:15])
        chain = ir.Chain(f"{nic.name}.in", nic.name, "in", None, rules, "drop")
        placed = place.NicPlacement(nic, 0, (place.ChainPlacement(chain, "xdp", 1, ""),), (), ())
        made = xdp.lower(place.Placed(ir.Program((nic,), sets, (chain,)), (placed,), (), (), ()))
        return next(iter(made.sources.values()))

    digits = re.compile(r"\d+")  # ids of maps come from names
    assert digits.sub("0", source('*/ } "\\x')) == digits.sub("0", source("z"))


def test_map_ids_are_stable_and_fit_imm() -> None:
    assert map_id("clock") == map_id("clock") and 0 < map_id("clock") < 1 << 31
    code = bytes((0x18, 0x21, 0, 0, 7, 0, 0, 0)) + bytes(8) + bytes((0x18, 1, 0, 0, 9, 0, 0, 0)) + bytes(8) + bytes((0x95,)) + bytes(7)
    assert referred_maps(code) == (7,)


def test_a_rule_cannot_take_a_counter_of_the_stage() -> None:
    rule = ir.Rule("seen", "drop", TRUE)
    chain = ir.Chain("wan.in", "wan", "in", None, (rule,), "drop")
    placed = place.NicPlacement(ir.Nic("wan", "w0"), 0, (place.ChainPlacement(chain, "xdp", 1, ""),), (), ())
    with pytest.raises(CompileError, match="N903.*called seen"):
        xdp.lower(place.Placed(ir.Program((ir.Nic("wan", "w0"),), (), (chain,)), (placed,), (), (), ()))
