"""A whole measurement: check, then every scenario and number of flows, then what was counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from compiler.tables.flows import Material
from runtime.bench import iptables_peer, machine, nft_peer, timing, xdp_filter_peer
from runtime.bench.iptables_peer import IPTABLES
from runtime.bench.live_peer import LivePeer
from runtime.bench.nft_peer import NFT
from runtime.bench.rig import BY_HAND, FLOOR, NETC, BenchError, Rig
from runtime.bench.xdp_filter_peer import XDP_FILTER
from runtime.replay import on_one_cpu

WARM_MIN = 1024  # packets before each batch
PEERS = (NFT, IPTABLES, XDP_FILTER)


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
    material: Material, flows: Sequence[int], seconds: float, batch: float, say: Callable[[str], None], peers: Sequence[str] = ()
) -> Results:
    """seconds: for each subject and table of flows; peers: other tools too, where they can be. Raises BenchError where a result is wrong,
    before anything was timed."""
    skipped = {peer: _reason_against(peer, material) if peer in peers else f"not asked for (--{peer})" for peer in PEERS}
    beside = XDP_FILTER in peers and not skipped[XDP_FILTER]
    with on_one_cpu() as cpu, Rig(material, cpu, one_buffer=beside) as rig, ExitStack() as stack:
        if beside:
            skipped[XDP_FILTER] = stack.enter_context(xdp_filter_peer.beside(rig))
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
        for peer in (name for name in (NFT, IPTABLES) if not skipped[name]):
            skipped[peer] = _live(peer, rig, results, flows, seconds, batch, say)
    results.skipped = {peer: reason for peer, reason in skipped.items() if reason}
    return results


def _reason_against(peer: str, material: Material) -> str:
    """Why this tool cannot be measured; "" when it can."""
    if peer == NFT:
        return nft_peer.reason_against(material)
    return iptables_peer.reason_against(material) if peer == IPTABLES else xdp_filter_peer.reason_against(material)


def _live(peer: str, rig: Rig, results: Results, flows: Sequence[int], seconds: float, batch: float, say: Callable[[str], None]) -> str:
    """A peer on live frames; why not, where it does not judge as the policy does. nft's rules are netc's own: there that is an error."""
    with ExitStack() as stack:
        try:
            live: LivePeer = stack.enter_context((nft_peer if peer == NFT else iptables_peer).opened(rig))
            results.compared += live.check()
        except BenchError as error:
            if peer == NFT:
                raise
            return f"not comparable: {error}"
        if peer == IPTABLES:
            results.machine[IPTABLES] = iptables_peer.version()
        for number, scenario in enumerate(rig.material.scenarios):
            for count in flows:
                say(f"timing {peer}, {scenario.name}, {count:,} flows")
                results.measured += live.measure(number, count, seconds, batch)
    return ""


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
