"""Header space agrees with the reference interpreter: a whole packet lies in MAY exactly when a rule with the expression matches it."""

from __future__ import annotations

import random

import pytest

from compiler import ir, ranges
from compiler.interp import Interpreter
from compiler.packet import Packet, parse
from compiler.space import Region, Shape, Space, whole_shapes
from tests.differential.packets import boundary_packets
from tests.differential.policies import random_program


def shape_of(packet: Packet) -> Shape | None:
    """The one shape that the packet is of; None for a malformed one."""
    if "malformed" in packet.kinds:
        return None
    depends = {"vlan", "nd", "mld", "l2"}
    fitting = [s for s in whole_shapes() if packet.kinds - depends == s.kinds and _in_domain(packet, s)]
    assert len(fitting) == 1, f"{sorted(packet.kinds)} fits {[s.name for s in fitting]}"
    return fitting[0]


def _in_domain(packet: Packet, shape: Shape) -> bool:
    domain = dict(shape.domain)
    return packet.fields.keys() == domain.keys() and all(ranges.contains(domain[f], v) for f, v in packet.fields.items())


def within(packet: Packet, region: Region) -> bool:
    return any(all(ranges.contains(values, packet.fields[field]) for field, values in box.items()) for box in region.boxes)


def stateless(when: ir.Expr, sets: dict[str, ir.Set]) -> bool:
    match when:
        case ir.Connection():
            return False
        case ir.Member(_, name):
            return sets[name].size is None
        case ir.Not(item):
            return stateless(item, sets)
        case ir.And(items) | ir.Or(items):
            return all(stateless(item, sets) for item in items)
    return True


@pytest.mark.parametrize("seed", range(12))
def test_space_agrees_with_the_interpreter(seed: int) -> None:
    rng = random.Random(seed)
    program = random_program(rng)
    space, sets = Space(program), {item.name: item for item in program.sets}
    frames = boundary_packets(program, rng, 300)
    compared = 0
    for rule in program.chains[0].rules:
        if not stateless(rule.when, sets):
            continue
        alone = ir.Program(nics=program.nics, sets=program.sets, chains=(ir.Chain("wan.in", "wan", "in", None, (ir.Rule("r", "pass", rule.when),), "drop"),))
        interpreter = Interpreter(alone)
        for frame in frames:
            packet = parse(frame)
            shape = shape_of(packet)
            if shape is None or packet.control:
                continue
            matched = interpreter.judge(frame, "wan", "in", 10**9).rule == "wan.in.r"
            assert within(packet, space.may(rule.when, shape)) == matched == within(packet, space.must(rule.when, shape)), frame.hex()
            compared += 1
    assert compared > 0 or all(not stateless(rule.when, sets) for rule in program.chains[0].rules)


def test_a_region_and_its_complement_are_the_whole() -> None:
    rng = random.Random(7)
    for _ in range(20):
        program = random_program(rng)
        space = Space(program)
        for rule in program.chains[0].rules:
            for shape in whole_shapes():
                yes, no = space.must(rule.when, shape), space.must(ir.Not(rule.when), shape)
                assert not yes.intersect(no)
                assert not yes.subtract(space.may(rule.when, shape))
