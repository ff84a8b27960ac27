"""Every packet that the reference parser reads is in exactly one shape; that is what a proof over all shapes rests on."""

from __future__ import annotations

from random import Random

import pytest

from compiler import packet, ranges
from compiler.reach.shapes import FIELDS_OF_KINDS, every_shape, told_apart
from compiler.space import Shape, whole_shapes
from tests.differential.policies import random_program
from tests.pure.reach.rules import packets, program


def holds(shape: Shape, read: packet.Packet) -> bool:
    domain = dict(shape.domain)
    kinds = {kind for kind in read.kinds if kind not in FIELDS_OF_KINDS}
    return kinds == shape.kinds and read.fields.keys() == domain.keys() and all(ranges.contains(domain[name], value) for name, value in read.fields.items())


@pytest.mark.parametrize("seed", range(12))
def test_every_packet_is_in_one_shape(seed: int) -> None:
    rng = Random(seed)
    made = random_program(rng) if seed % 2 else program(rng)
    for frame in packets(made, rng, 400):
        read = packet.parse(frame)
        found = [shape.name for shape in every_shape() if holds(shape, read)]
        assert len(found) == 1, (found, read, frame.hex())


def test_the_packets_come_in_most_shapes() -> None:
    """Else the test above would hold little."""
    met: set[str] = set()
    for seed in range(40):
        for frame in packets(random_program(Random(seed)), Random(seed), 200):
            read = packet.parse(frame)
            met |= {shape.name for shape in every_shape() if holds(shape, read)}
    missed = {shape.name for shape in every_shape()} - met
    assert len(missed) <= len(every_shape()) // 8, missed


def test_what_no_rule_tells_apart_is_one_shape() -> None:
    assert {shape.name for shape in told_apart(whole_shapes(), {"tcp"}, set())} >= {"ip4 tcp", "ip4 udp", "arp", "other"}
    assert len(told_apart(every_shape(), set(), set())) == 5  # by what may be control traffic alone
