"""A whole measurement: check, then every scenario and number of flows, then what was counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from compiler.tables.flows import Material
from runtime.bench import machine, timing
from runtime.bench.rig import BY_HAND, FLOOR, NETC, BenchError, Rig
from runtime.replay import on_one_cpu

WARM_MIN = 1024  # packets before each batch


@dataclass(slots=True)
class Results:
    """What a run found; skipped: peers that were not measured, with the reason."""

    material: Material
    compared: int
    measured: list[timing.Measured]
    machine: dict[str, str]
    programs: dict[str, tuple[int, int]]  # subject → bytes, instructions that the verifier walked
    skipped: dict[str, str] = field(default_factory=dict)


def run(
    material: Material, flows: Sequence[int], seconds: float, batch: float, say: Callable[[str], None], with_nft: bool = False
) -> Results:
    """seconds: for each subject and table of flows; with_nft: nftables too, where it can be. Raises BenchError where a result is wrong, before anything was timed."""
    with on_one_cpu() as cpu, Rig(material, cpu) as rig:
        say(f"checking {sum(len(s.expected) for s in material.scenarios):,} flows")
        compared = rig.check()
        before, sent = rig.seen(), 0
        results = Results(material, compared, [], machine.facts(cpu), {name: (size, walked) for name, size, walked in rig.instructions()})
        for number, scenario in enumerate(material.scenarios):
            for count in flows:
                say(f"timing {scenario.name}, {count:,} flows")
                taken, packets = _cell(rig, number, count, seconds, batch)
                sent += packets
                results.measured += timing.summarise(taken, scenario.name, count, FLOOR, BY_HAND)
        _balance(rig.seen() - before, sent)
        if with_nft:
            _nft(rig, results, flows, seconds, batch, say)
        else:
            results.skipped["nft"] = "not asked for (--nft)"
    return results


def _nft(rig: Rig, results: Results, flows: Sequence[int], seconds: float, batch: float, say: Callable[[str], None]) -> None:
    from runtime.bench import nft_peer

    if reason := nft_peer.reason_against(rig.material):
        results.skipped["nft"] = reason
        return
    with nft_peer.opened(rig) as peer:
        results.compared += peer.check()
        for number, scenario in enumerate(rig.material.scenarios):
            for count in flows:
                say(f"timing nft, {scenario.name}, {count:,} flows")
                results.measured += peer.measure(number, count, seconds, batch)


def _cell(rig: Rig, scenario: int, flows: int, seconds: float, batch: float) -> tuple[dict[str, timing.Series], int]:
    """All subjects over one table of flows, and how many packets netc's program was given."""
    given = 0

    def point(subject: str) -> timing.Run:
        rig.point(subject, scenario, flows)

        def run(packets: int) -> None:
            nonlocal given
            rig.run(packets)
            given += packets * (subject == NETC)

        return run

    taken = timing.measure(point, sorted(rig.subjects, key=lambda name: name != FLOOR), seconds, batch, max(WARM_MIN, 2 * flows))
    return taken, given


def _balance(counted: int, sent: int) -> None:
    """The program counted every packet that was timed: it did run, and to its end."""
    if counted != sent:
        raise BenchError(f"netc's program counted {counted:,} packets of {sent:,}: the measurement is worth nothing")
