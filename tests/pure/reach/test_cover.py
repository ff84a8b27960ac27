"""Unreached rules are found exactly: against the plain proof that subtracts every rule above, and against packets."""

from __future__ import annotations

from random import Random

import pytest

from compiler import ir
from compiler.interp import Interpreter
from compiler.reach import cover
from compiler.reach.cover import Cover
from compiler.reach.shapes import every_shape
from compiler.space import Space, whole_shapes
from tests.differential.packets import times
from tests.pure.reach.rules import packets, program


def plainly(made: ir.Program, at: int) -> bool:
    """Whether the rules above take every packet of a rule that has one: each subtracted from each shape."""
    space, rules, some = Space(made), made.chains[0].rules, False
    for shape in every_shape():
        for kind in ("", *ir.CONTROL_KINDS):
            if kind and not names(rules[at].when, kind):
                continue
            rest = space.may(rules[at].when, shape)
            for other in ir.CONTROL_KINDS:
                control = space.may(ir.Is(other), shape)
                rest = rest.intersect(control) if other == kind else rest.subtract(control)
            some |= bool(rest)
            for rule in rules[:at]:
                if rule.limit is None and (not kind or names(rule.when, kind)):
                    rest = rest.subtract(space.must(rule.when, shape))
            if rest:
                return False
    return some


def names(when: ir.Expr, kind: str) -> bool:
    if isinstance(when, ir.And | ir.Or):
        return any(names(item, kind) for item in when.items)
    return when == ir.Is(kind)


@pytest.mark.parametrize("seed", range(40))
def test_what_is_found_is_what_the_plain_proof_finds(seed: int) -> None:
    made = program(Random(seed), 16)
    rules = made.chains[0].rules
    found = Cover(rules, made, every_shape()).unreached()
    assert sorted(found) == [at for at in range(len(rules)) if plainly(made, at)]
    for at, above in found.items():
        alone = ir.Program(made.nics, made.sets, (ir.Chain("wan.in", "wan", "in", None, (*(rules[n] for n in above), rules[at]), "drop"),))
        assert all(number < at for number in above)
        assert plainly(alone, len(above)), "the rules that are named do not cover it"


@pytest.mark.parametrize("seed", range(20))
def test_no_packet_meets_an_unreached_rule(seed: int) -> None:
    rng = Random(1000 + seed)
    made = program(rng, 20)
    found = Cover(made.chains[0].rules, made, every_shape()).unreached()
    interpreter = Interpreter(made)
    for frame, now in zip(packets(made, rng, 300), times(made, rng, 300), strict=True):
        interpreter.judge(frame, "wan", "in", now)
    assert [made.chains[0].rules[at].name for at in found if interpreter.counters[f"wan.in.r{at}"] != [0, 0]] == []


def test_whole_packets_alone_would_not_do() -> None:
    """The mutant: over whole packets the second rule is covered, and a packet that is cut short gets to it."""
    rules = (
        ir.Rule("a", "drop", ir.Within(ir.Field.DPORT, ((0, 65535),))),
        ir.Rule("b", "drop", ir.Is("fragment")),
        ir.Rule("c", "pass", ir.And((ir.Is("ip4"), ir.Is("udp")))),
    )
    made = ir.Program((ir.Nic("wan", "w"),), chains=(ir.Chain("wan.in", "wan", "in", None, rules, "drop"),))
    assert Cover(rules, made, whole_shapes()).unreached() == {2: (0, 1)}
    assert Cover(rules, made, every_shape()).unreached() == {}
    frame = bytes(12) + b"\x08\x00" + bytes.fromhex("4500002000000000401100000a0000010a000002") + b"\x12\x34\x00"
    assert Interpreter(made).judge(frame, "wan", "in", 10**9).rule == "wan.in.c"


def test_a_union_of_many_covers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sixty-four narrow rules cover a wide one; without one of them they do not. What the bounds do not settle is reached."""
    base = ir.V4_BASE + (10 << 24)
    narrow = [ir.Rule(f"n{n}", "pass", ir.Within(ir.Field.SRC, ((base + (n << 10), base + (n << 10) + 1023),))) for n in range(64)]
    wide = ir.Rule("wide", "drop", ir.Within(ir.Field.SRC, ((base, base + 65535),)))

    def found(above: list[ir.Rule]) -> dict[int, tuple[int, ...]]:
        made = ir.Program(chains=(ir.Chain("wan.in", "wan", "in", None, (*above, wide), "drop"),))
        return Cover(made.chains[0].rules, made, every_shape()).unreached()

    assert found(narrow) == {64: tuple(range(64))}
    assert found(narrow[:40] + narrow[41:]) == {}
    monkeypatch.setattr(cover, "MOST_CUTS", 100)
    assert found(narrow) == {}


def test_many_rules_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """More points than are judged together; and more rules than are looked at."""
    monkeypatch.setattr(cover, "_CHUNK", 1000)
    rules = [ir.Rule(f"r{n}", "pass", ir.And((ir.Is("tcp"), ir.Within(ir.Field.SRC, ((ir.V4_BASE + n, ir.V4_BASE + n),))))) for n in range(3000)]
    rules += [ir.Rule(f"s{n}", "drop", ir.And((ir.Within(ir.Field.SRC, ((ir.V4_BASE + n, ir.V4_BASE + n),)), ir.Is("tcp")))) for n in (5, 2999, 3000)]
    made = ir.Program(chains=(ir.Chain("wan.in", "wan", "in", None, tuple(rules), "drop"),))
    assert Cover(rules, made, every_shape()).unreached() == {3000: (5,), 3001: (2999,)}
    monkeypatch.setattr(cover, "MOST_RULES", 3000)
    assert Cover(rules, made, every_shape()).unreached() == {}
