"""Interpreter = XDP over random policies and packets at their boundaries; and the comparison notices a wrong lowering.

NETC_DIFFERENTIAL="500x1000" runs the full proof (policies x packets); without it a sample.
"""

from __future__ import annotations

import dataclasses
import os
import random

import pytest

from compiler import ir
from compiler.targets import c_expr, c_program, xdp_steer
from tests.differential import packets, policies
from tests.kernel.xdp import compare, rig

POLICIES, PACKETS = (int(part) for part in os.environ.get("NETC_DIFFERENTIAL", "25x400").split("x"))
CPU, DROP = ir.Target("cpus", (0,)), ir.Target("drop")
_GROUP = 5  # policies a test: enough tests for two workers, few enough to read


def case(seed: int, count: int = PACKETS) -> tuple[ir.Program, list[bytes], list[int]]:
    rng = random.Random(seed)
    program = policies.random_program(rng)
    return program, packets.boundary_packets(program, rng, count), packets.times(program, rng, count)


@pytest.mark.parametrize("first", range(0, POLICIES, _GROUP))
def test_the_interpreter_and_xdp_agree(first: int) -> None:
    for seed in range(first, min(first + _GROUP, POLICIES)):
        assert not compare.differences(*case(seed)), f"seed {seed}"


@pytest.mark.parametrize("first", range(2000, 2000 + max(5, POLICIES // 5), _GROUP))
def test_steering_agrees_too(first: int) -> None:
    for seed in range(first, first + _GROUP):
        program, frames, times = case(seed)
        rng = random.Random(seed)
        rules = tuple(_steer_rule(rng, f"{kind}{i}", program.sets) for i, kind in enumerate(rng.choices(("cpu", "nic", "drop"), k=rng.randint(1, 4))))
        names_one = (*rules, ir.SteerRule("cpu-last", ir.Is("udp"), CPU))  # some steering runs in XDP
        steer = ir.Steer("wan.steer", "wan", names_one, rng.choice((None, CPU, DROP)))
        assert not compare.differences(dataclasses.replace(program, steers=(steer,)), frames, times), f"seed {seed}"


def _steer_rule(rng: random.Random, name: str, sets: tuple[ir.Set, ...]) -> ir.SteerRule:
    return ir.SteerRule(name, policies.expression(rng, sets), DROP if name.startswith("drop") else CPU)


def test_a_steer_drop_that_drops_what_is_still_to_be_judged_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mutant: what the early stage hands on is dropped as well."""
    monkeypatch.setattr(xdp_steer.ir, "LEAVES_THE_STACK", ())
    program, frames, times = case(2000)
    later = ir.Chain("wan.in", "wan", "in", None, (ir.Rule("est", "pass", ir.Connection(("established",))),), "pass")
    steer = ir.Steer("wan.steer", "wan", (ir.SteerRule("drop-udp", ir.Is("udp"), DROP),))
    mutant = dataclasses.replace(program, chains=(later,), steers=(steer,))
    made = rig.bundle_of(rig.placed_of(mutant, compare.steered(mutant)))
    monkeypatch.undo()
    assert compare.differences(mutant, frames, times, made) and not compare.differences(mutant, frames, times)


def _not_forgets_presence(expr: ir.Expr, c: c_program.CProgram, wanted: bool) -> str:
    """The classic mistake: absent is false, so `not` of it is true."""
    match expr:
        case ir.Not(item):
            return f"!({_not_forgets_presence(item, c, True)})"
    return _REAL(expr, c, wanted)


_REAL = c_expr._lower
_MUTANTS = {  # file of C, the text as it is, as it must not be; the first seed that tells them apart (others follow)
    "a tag too many": ("parser.h", "if (tags == 2 ||", "if (tags == 3 ||", 1001),
    "a later fragment's ports": ("parser.h", "if (UNLIKELY(fragment & NET16(0x1fff)))", "if (0)", 1002),
    "the eighth extension header": ("parser.h", "if (i == 8 ||", "if (i == 7 ||", 1000),
    "control traffic is judged": ("prelude.h", "#define CONTROL(p) ((p)->kinds &", "#define CONTROL(p) (0 &", 1000),
    "a burst of one more": ("state.h", "if (base - now > depth)", "if (base - now > depth + 1000000000000ULL)", 1000),
    "an expiry that still lives": ("keyed.h", "return at <= idle_at &&", "return at < idle_at &&", 1026),
    "a hand that looks at three": ("keyed.h", "i < 4", "i < 3", 1005),
}


@pytest.mark.parametrize("name", _MUTANTS)
def test_a_mutant_of_the_c_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    file, right, wrong, seed = _MUTANTS[name]
    real = c_program.read_part
    assert right in real(file)
    monkeypatch.setattr(c_program, "read_part", lambda part: real(part).replace(right, wrong) if part == file else real(part))
    assert _caught(seed)


def test_a_mutant_of_the_logic_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c_expr, "_lower", _not_forgets_presence)
    assert _caught(1000)


def _caught(first: int) -> bool:
    """Whether one of forty policies tells the mutant from the interpreter."""
    return any(compare.differences(*case(seed, 400), most=1) for seed in range(first, first + 40))
