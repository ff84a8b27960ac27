"""A rule's boxes are true exactly where the interpreter says that its condition is: `not`, absent fields, `or` and kinds included."""

from __future__ import annotations

import random

import pytest

from compiler import ir, ranges
from compiler.classify import terms
from compiler.interp import Interpreter
from compiler.packet import Packet, parse
from tests.differential import packets, policies

F = ir.Field


def inside(box: terms.Box, packet: Packet) -> bool:
    kinds = sum(1 << ir.KINDS.index(kind) for kind in packet.kinds)
    values = packet.fields
    return kinds & box.mask == box.kinds and all(
        name in values and any(low <= values[name] <= high for low, high in wanted) for name, wanted in box.fields.items()
    )


def matches(program: ir.Program, expr: ir.Expr, frames: list[bytes]) -> list[bool]:
    """The interpreter, asked for one rule alone."""
    chain = ir.Chain("wan.in", "wan", "in", None, (ir.Rule("it", "drop", expr),), "pass")
    judge = Interpreter(ir.Program(nics=program.nics, sets=program.sets, chains=(chain,))).judge
    return [judge(frame, "wan", "in", 1).rule == "wan.in.it" for frame in frames]


def case(seed: int) -> tuple[int, list[str]]:
    """How many expressions were compared, and what differs."""
    rng = random.Random(seed)
    program = policies.random_program(rng, tail=False)
    known = {item.name: item for item in program.sets}
    frames = [frame for frame in packets.boundary_packets(program, rng, 80) if not parse(frame).control]
    read, compared, found = [parse(frame) for frame in frames], 0, []
    exprs = [rule.when for rule in program.chains[0].rules] + [policies.expression(rng, program.sets) for _ in range(6)]
    for expr in [*exprs, *map(ir.Not, exprs)]:
        try:
            made = terms.of_rule(0, ir.Rule("it", "drop", expr), known)
        except terms.Inexpressible:
            continue
        compared += 1
        for packet, right in zip(read, matches(program, expr, frames), strict=True):
            if any(inside(term.box, packet) for term in made) != right:
                found.append(f"seed {seed}: {expr} is {right} for {packet}")
    return compared, found


@pytest.mark.parametrize("first", range(0, 60, 10))
def test_boxes_are_true_where_the_interpreter_says_so(first: int) -> None:
    results = [case(seed) for seed in range(first, first + 10)]
    assert not [text for _, found in results for text in found]
    assert sum(compared for compared, _ in results) > 60


@pytest.mark.parametrize("seed", range(10))
def test_alternatives_over_the_same_fields_are_joined_only_where_one_differs(seed: int) -> None:
    """(sport 1 and dport 2) or (sport 3 and dport 4) is no rectangle: 1 to 4 is outside."""
    rng = random.Random(seed)
    pair = lambda: ir.And((ir.Within(F.SPORT, ((p := rng.randrange(4), p),)), ir.Within(F.DPORT, ((q := rng.randrange(4), q + rng.randrange(2)),))))
    expr = ir.Or(tuple(pair() for _ in range(rng.randint(2, 5))))
    made = terms.of_rule(0, ir.Rule("it", "drop", expr), {})
    assert len(made) <= len(expr.items)
    for ports in ((s, d) for s in range(5) for d in range(6)):
        packet = Packet(dict(zip((F.SPORT, F.DPORT), ports, strict=True)), frozenset(), frozenset())
        right = any(all(low <= at <= high for at, low, high in zip(ports, *zip(*(leaf.ranges[0] for leaf in item.items), strict=True), strict=True)) for item in expr.items)  # type: ignore[union-attr]
        assert any(inside(term.box, packet) for term in made) == right, ports


def test_boxes_are_normal_and_not_empty() -> None:
    for seed in range(30):
        rng = random.Random(seed)
        program = policies.random_program(rng, tail=False)
        for rule in program.chains[0].rules:
            try:
                made = terms.of_rule(3, ir.Rule("it", "drop", rule.when), {item.name: item for item in program.sets})
            except terms.Inexpressible:
                continue
            assert len(made) <= terms.MAX_TERMS and all(term.rule == 3 and term.box.kinds & ~term.box.mask == 0 for term in made)
            for name, wanted in (pair for term in made for pair in term.box.fields.items()):
                assert wanted and all(low <= high for low, high in wanted) and wanted == ranges.normalize(wanted), name


def test_absent_is_neither_a_port_nor_another_port() -> None:
    port = ir.Within(F.DPORT, ((22, 22),))
    for expr in (port, ir.Not(port), ir.Or((port, ir.Not(port)))):
        assert all(F.DPORT in term.box.fields for term in terms.of_rule(0, ir.Rule("it", "drop", expr), {}))
    both = ir.Or((ir.Not(port), ir.Is("fragment")))
    assert [set(term.box.fields) for term in terms.of_rule(0, ir.Rule("it", "drop", both), {})] == [{F.DPORT}, set()]


def test_what_hangs_on_state_is_not_for_tables() -> None:
    dynamic = {"d": ir.Set("d", "address", (), 5)}
    mac = ir.Within(F.ETH_SRC, ((1, 1),))
    limit = ir.Limit("x", 64, 1)
    within = ir.Within(F.DPORT, ((1, 1),))
    refused = [ir.Rule("it", "drop", ir.Member(F.SRC, "d")), ir.Rule("it", "drop", ir.Not(mac)), ir.Rule("it", "drop", within, limit)]
    refused += [ir.Rule("it", "drop", within, None, (ir.Log(),))]
    many = ir.And(tuple(ir.Or((ir.Within(a, ((1, 1),)), ir.Within(b, ((2, 2),)))) for a in (F.TTL, F.DSCP, F.PROTO) for b in (F.SPORT, F.LENGTH, F.VLAN)))
    for rule in [*refused, ir.Rule("it", "drop", many)]:
        with pytest.raises(terms.Inexpressible):
            terms.of_rule(0, rule, dynamic)
