"""nftables as a peer: the same filter, as netc lowers it for netdev ingress, on frames that XDP passes into a namespace of its own.

Live frames of a test run (BPF_F_TEST_XDP_LIVE_FRAMES) become socket buffers and meet the rules on `lo`. Every `accept` is written as
`drop`, so that no stack behind is measured; the floor is the same way with a chain that only drops. nft's price is the difference.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from compiler.tables.flows import Material
from runtime.backends import nft
from runtime.bench import timing
from runtime.bench.rig import FLOOR, BenchError, Rig
from runtime.lab import netns
from runtime.steps.nft_content import decoded

NFT, NFT_FLOOR = "nft", "nft floor"
_LO = 1  # ifindex of lo in every namespace
_TABLE = "netc"
_WARM_MIN = 1024


def reason_against(material: Material) -> str:
    """Why nft cannot be measured beside this policy; "" when it can."""
    if material.stateful:
        return "limits and dynamic sets do not start alike there"
    if not material.nft:
        return "its netdev ingress cannot say this filter alone"
    try:
        nft.tables()
    except nft.NftError as error:
        return str(error)
    return ""


class Peer:
    """Two namespaces, one with the rules, one with a chain that drops; made by `opened`."""

    def __init__(self, rig: Rig, ruled: str, bare: str) -> None:
        self._rig, self._places = rig, {NFT: ruled, NFT_FLOOR: bare}
        with netns.enter(ruled):
            nft.run([_here(command) for command in decoded(rig.material.nft[0])])
        with netns.enter(bare):
            nft.run(_only_dropping())

    def check(self) -> int:
        """Every flow of every scenario through the rules; their counters say which it was. Raises BenchError."""
        for number, scenario in enumerate(self._rig.material.scenarios):
            wanted = Counter(self._rig.material.outcomes[i].counter for i in scenario.expected)
            before = self._counted()
            self._rig.point(FLOOR, number, len(scenario.expected))
            self._run(NFT)(len(scenario.expected))
            now = self._counted()
            for outcome in self._rig.material.outcomes:
                got = now.get(outcome.counter, 0) - before.get(outcome.counter, 0)
                if got != wanted[outcome.counter]:
                    raise BenchError(f"nft counts {got} {scenario.name} at {outcome.counter}, the policy {wanted[outcome.counter]}")
        return sum(len(scenario.expected) for scenario in self._rig.material.scenarios)

    def measure(self, scenario: int, flows: int, seconds: float, batch: float) -> list[timing.Measured]:
        def point(subject: str) -> timing.Run:
            self._rig.point(FLOOR, scenario, flows)
            return self._run(subject)

        taken = timing.measure(point, [NFT_FLOOR, NFT], seconds, batch, max(_WARM_MIN, 2 * flows))
        return timing.summarise(taken, self._rig.material.scenarios[scenario].name, flows, NFT_FLOOR, "")

    def _counted(self) -> dict[str, int]:
        with netns.enter(self._places[NFT]):
            return {name: packets for name, (packets, _) in nft.counters("netdev", _TABLE).items()}

    def _run(self, subject: str) -> Callable[[int], None]:
        def run(packets: int) -> None:
            with netns.enter(self._places[subject]):
                self._rig.live(packets, _LO)

        return run


@contextmanager
def opened(rig: Rig) -> Iterator[Peer]:
    """Namespaces of this process alone, removed at the end. Raises NetnsError, NftError."""
    names = [f"ntbench{os.getpid()}{which}" for which in ("r", "b")]
    made: list[str] = []
    try:
        for name in names:
            netns.create(name)
            made.append(name)
        yield Peer(rig, *names)
    finally:
        for name in made:
            netns.delete(name)


def _here(item: Any) -> Any:
    """A command of the bundle for this namespace: on lo, as generation 1, dropping where it would accept."""
    if isinstance(item, dict):
        return {("drop" if key == "accept" else key): _here(value) for key, value in item.items()}
    if isinstance(item, list):
        return [_here(value) for value in item]
    if isinstance(item, str):
        return "lo" if item.startswith("$dev:") else f"{item.removesuffix('$gen')}1" if item.endswith("_g$gen") else item
    return item


def _only_dropping() -> list[nft.Json]:
    place = {"family": "netdev", "table": _TABLE}
    base = {**place, "name": "base", "type": "filter", "hook": "ingress", "dev": "lo", "prio": 0, "policy": "drop"}
    return [{"add": {"table": {"family": "netdev", "name": _TABLE}}}, {"add": {"chain": base}}]
