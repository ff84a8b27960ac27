"""A NIC's half and then the host's whole = the interpreter: verdict, rule and counters, over random policies and packets at their boundaries."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from compiler import ir, place_offload
from compiler.packet import parse
from compiler.profile import OffloadMaps
from compiler.targets import c_program, offload
from runtime.backends import bpf
from tests.differential import packets, policies
from tests.kernel.xdp import nic_half, rig

MAPS = (OffloadMaps(1, 16), OffloadMaps(2, 32), OffloadMaps(4, 64), OffloadMaps(2, 4096))
Case = tuple[ir.Program, list[bytes], list[int]]


def case(seed: int, count: int = 300) -> Case:
    """One policy in three without limits, effects, dynamic sets: there a NIC has most to do."""
    rng = random.Random(seed)
    program = policies.random_program(rng, plain=seed % 3 == 0)
    return program, packets.boundary_packets(program, rng, count), packets.times(program, rng, count)


@pytest.mark.parametrize("first", range(7000, 7016, 8))
def test_a_nic_and_its_host_judge_as_the_interpreter(first: int) -> None:
    dropped = 0
    for seed in range(first, first + 8):
        found, by_nic = nic_half.differences(*case(seed), MAPS[seed % len(MAPS)])
        assert not found, f"seed {seed}"
        dropped += by_nic
    assert dropped > 20, "the NIC has its part"


def _one_drop(rules: tuple[ir.Rule, ...], default: str = "pass") -> ir.Program:
    return ir.Program(nics=(ir.Nic("wan", "wan0"),), sets=(ir.Set("dyn", "address", size=16),), chains=(ir.Chain("wan.in", "wan", "in", None, rules, default),))


def test_default_drop_is_the_nics_where_every_rule_is_exact() -> None:
    program = _one_drop((ir.Rule("web", "pass", ir.Within(ir.Field.DPORT, ((80, 80),))),), "drop")
    _, parts = nic_half.placed_of(program, OffloadMaps(2, 16))
    assert parts.offloads[0].counters == ("wan.in.default",)
    rng = random.Random(1)
    found, dropped = nic_half.differences(program, packets.boundary_packets(program, rng, 300), [1] * 300, OffloadMaps(2, 16))
    assert not found and dropped > 100


def test_what_may_be_in_a_dynamic_set_goes_to_the_host() -> None:
    unknown = ir.Rule("dyn", "pass", ir.And((ir.Is("udp"), ir.Member(ir.Field.SRC, "dyn"))))
    program = _one_drop((unknown, ir.Rule("dns", "drop", ir.Is("udp")), ir.Rule("tcp", "drop", ir.Is("tcp"))))
    _, parts = nic_half.placed_of(program, OffloadMaps(2, 64))
    with nic_half.nic_of(parts) as nic:
        assert nic is not None
        for number, frame in enumerate(packets.boundary_packets(program, random.Random(2), 200)):
            kinds = _says(frame)
            if "udp" in kinds and "src" in kinds:
                assert not nic.drops(frame), f"packet {number}: {frame.hex()}"


def _says(frame: bytes) -> set[str]:
    """Kinds and fields of a frame."""
    parsed = parse(frame)
    return {*parsed.kinds, *(str(field) for field in parsed.fields)}


_REAL_WIDENED = place_offload.may_be_true
_MUTANTS = {
    "what is not known is false": ("may_be_true", lambda when, sets: ir.Const(False) if any(place_offload._unknown(p, sets) for p in place_offload.parts(when)) else _REAL_WIDENED(when, sets)),
    "rules with limits and effects are judged as if they had none": ("_inexact", lambda rule, sets: next((w for p in place_offload.parts(rule.when) if (w := place_offload._unknown(p, sets))), "")),
}  # fmt: skip


@pytest.mark.parametrize("name", _MUTANTS)
def test_a_mutant_of_the_split_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    where, wrong = _MUTANTS[name]
    monkeypatch.setattr(place_offload, where, wrong)
    assert _caught()


_C_MUTANTS = {
    "control traffic is judged": ("prelude.h", "#define CONTROL(p) ((p)->kinds &", "#define CONTROL(p) (0 &"),
    "the neighbour's place": ("offload.h", "counted + 2 * pair,", "counted + 2 * (pair ^ 1),"),
}


@pytest.mark.parametrize("name", _C_MUTANTS)
def test_a_mutant_of_the_c_is_caught(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the NIC's program alone: the host's is right."""
    file, right, wrong = _C_MUTANTS[name]
    real = c_program.read_part
    assert right in real(file)
    monkeypatch.setattr(offload, "read_part", lambda part: real(part).replace(right, wrong) if part == file else real(part))
    assert _caught()


def _caught() -> bool:
    return any(nic_half.differences(*case(seed), OffloadMaps(2, 4096))[0] for seed in range(7000, 7060, 3))


def test_the_verifier_walks_a_long_program_in_a_moment() -> None:
    """Its work grows with the rules, not with what their outcomes could be together."""
    rng = random.Random(5)
    rules = tuple(ir.Rule(f"r{n}", "drop", ir.And((ir.Is(rng.choice(("tcp", "udp"))), ir.Within(ir.Field.DPORT, ((3 * n, 3 * n + 1),)),
                                                   ir.Within(ir.Field.SRC, ((n << 70, (n << 70) + (1 << 40)),))))) for n in range(300))  # fmt: skip
    program = _one_drop(rules)
    _, parts = nic_half.placed_of(program, OffloadMaps(2, 4096))
    with nic_half.nic_of(parts) as nic:
        assert nic is not None and len(parts.offloads[0].counters) > 150
        info = bpf.prog_info(nic.program)
        assert info.verified_insns < 100_000, info


def test_without_room_the_host_has_the_rest() -> None:
    rules = tuple(ir.Rule(f"r{n}", "drop", ir.Within(ir.Field.DPORT, ((n, n),))) for n in range(5))
    _, parts = nic_half.placed_of(_one_drop(rules), OffloadMaps(3, 16))
    assert parts.offloads[0].counters == ("wan.in.r0", "wan.in.r1", "wan.in.r2") and (parts.offloads[0].elements, parts.offloads[0].value_size) == (3, 16)
    assert [item.reason for item in parts.reasons if item.what == "wan.in.r3"] == ["not on the NIC: the NIC's maps have no room for its counter"]


def test_one_program_for_the_host_with_a_nic_or_without() -> None:
    """The host judges the whole policy: what a NIC does for it changes nothing of it."""
    program = _one_drop((ir.Rule("dns", "drop", ir.Is("udp")),))
    placed, _ = nic_half.placed_of(program, OffloadMaps(2, 16))
    alone = rig.placed_of(program)
    assert rig.bundle_of(placed).programs == rig.bundle_of(replace(alone, nics=tuple(replace(nic, nic=replace(nic.nic, xdp="native")) for nic in alone.nics))).programs
