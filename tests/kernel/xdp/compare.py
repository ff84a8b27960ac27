"""The differential run: interpreter = XDP on one program and its packets, or a list of what differs."""

from __future__ import annotations

from collections.abc import Sequence

from compiler import bundle, ir, place
from compiler.interp import Interpreter
from tests.kernel.xdp import rig

_ACTIONS = {"pass": rig.XDP_PASS, "handed-on": rig.XDP_PASS, "drop": rig.XDP_DROP}


def steered(program: ir.Program) -> tuple[place.SteerPlacement, ...]:
    """Drops, rules named `cpu...` and the default in XDP; the others are the NIC's, and only counted."""
    if not program.steers:
        return ()
    steer = program.steers[0]
    default = () if steer.default is None else (ir.SteerRule("default", ir.Const(True), steer.default),)
    return tuple(place.SteerPlacement(rule, _where(rule), rule.target.numbers) for rule in (*steer.rules, *default))


def _where(rule: ir.SteerRule) -> str:
    if rule.target.kind == "drop":
        return "drop"
    return "cpumap" if _redirects(f".{rule.name}") else "ntuple"


def _redirects(counter: str) -> bool:
    return counter.rpartition(".")[2].startswith(("cpu", "default"))


def differences(
    program: ir.Program, frames: Sequence[bytes], times: Sequence[int], made: bundle.Bundle | None = None, most: int = 5
) -> list[str]:
    """Verdict, rule and steer counter of every packet, then all counters. `made`: another lowering than the real one (mutants)."""
    chain = program.chains[0]
    reference = Interpreter(program, {chain.name: rig.split_of(chain)})
    found: list[str] = []
    with rig.rig_of(program, steered(program), made) as kernel:
        for number, (frame, now) in enumerate(zip(frames, times, strict=True)):
            expected = reference.judge(frame, "wan", "in", now)
            got = kernel.judge(frame, now)
            action = rig.XDP_REDIRECT if expected.verdict != "drop" and _redirects(expected.steer) else _ACTIONS[expected.verdict]
            if (got.action, got.rule, got.steer) != (action, expected.rule, expected.steer):
                found.append(f"packet {number} at {now}: {expected.verdict} by {expected.rule}, XDP {got.action} by {got.rule} {got.steer}: {frame.hex()}")
                if len(found) == most:
                    return found
        counted = kernel.counters()
    for name, value in reference.counters.items():
        if tuple(value) != counted.get(name, (0, 0)):
            found.append(f"counter {name}: {value}, XDP {counted.get(name)}")
    return found
