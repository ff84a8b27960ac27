"""A condition that is called impossible matches none of the packets that the differential generator makes from its own boundaries."""

from __future__ import annotations

import random

from compiler import ir
from compiler.contradiction import never_matches
from compiler.interp import Interpreter
from tests.differential import packets, policies


def test_no_packet_meets_what_is_called_impossible() -> None:
    impossible = met = 0
    for seed in range(60):
        rng = random.Random(seed)
        program = policies.random_program(rng)
        sets = {item.name: item for item in program.sets}
        called = {r.name for c in program.chains for r in c.rules if never_matches(r.when, sets)}
        impossible += len(called)
        interpreter = Interpreter(program)
        chain = program.chains[0]
        for at, frame in enumerate(packets.boundary_packets(program, rng, 60)):
            judged = interpreter.judge(frame, chain.nic, "in", 10**9 + at)
            met += judged.rule.removeprefix(f"{chain.name}.") in called
    assert met == 0
    assert impossible > 0


def test_reasons_are_in_words() -> None:
    tcp_and_udp = ir.And((ir.Is("tcp"), ir.Is("udp")))
    assert "different protocols" in never_matches(tcp_and_udp, {})
    assert never_matches(ir.Not(tcp_and_udp), {}) == ""
