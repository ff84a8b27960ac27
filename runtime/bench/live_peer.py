"""Peers behind the driver: live frames of a test run (BPF_F_TEST_XDP_LIVE_FRAMES) become socket buffers on `lo` of a namespace and meet the peer's rules.

Whatever a rule would pass it drops, so that no stack behind is measured; the floor is the same way with no rules. The peer's price is the difference.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from runtime.bench import timing
from runtime.bench.rig import FLOOR, BenchError, Rig
from runtime.lab import netns

_LO = 1  # ifindex of lo in every namespace
_WARM_MIN = 1024


class LivePeer(ABC):
    """Two namespaces, one with the rules and one without. `name`, `floor`: what they are called in results."""

    def __init__(self, rig: Rig, name: str, floor: str, places: tuple[str, str]) -> None:
        self.name, self.floor = name, floor
        self._rig, self._places = rig, dict(zip((name, floor), places, strict=True))

    @abstractmethod
    def counted(self) -> Mapping[str, int]:
        """Packets so far, by the counters of the material's outcomes."""

    def check(self) -> int:
        """Every flow of every scenario through the rules; their counters say which it was. Raises BenchError."""
        for number, scenario in enumerate(self._rig.material.scenarios):
            wanted = Counter(self._rig.material.outcomes[i].counter for i in scenario.expected)
            before = self.counted()
            self._rig.point(FLOOR, number, len(scenario.expected))
            self._run(self.name)(len(scenario.expected))
            now = self.counted()
            for outcome in self._rig.material.outcomes:
                got = now.get(outcome.counter, 0) - before.get(outcome.counter, 0)
                if got != wanted[outcome.counter]:
                    raise BenchError(f"{self.name} counts {got} {scenario.name} at {outcome.counter}, the policy {wanted[outcome.counter]}")
        return sum(len(scenario.expected) for scenario in self._rig.material.scenarios)

    def measure(self, scenario: int, flows: int, seconds: float, batch: float) -> list[timing.Measured]:
        def point(subject: str) -> timing.Run:
            self._rig.point(FLOOR, scenario, flows)
            return self._run(subject)

        taken = timing.measure(point, [self.floor, self.name], seconds, batch, max(_WARM_MIN, 2 * flows))
        return timing.summarise(taken, self._rig.material.scenarios[scenario].name, flows, self.floor, "")

    def _run(self, subject: str) -> Callable[[int], None]:
        def run(packets: int) -> None:
            with netns.enter(self._places[subject]):
                self._rig.live(packets, _LO)

        return run


@contextmanager
def places(mark: str) -> Iterator[tuple[str, str]]:
    """Two namespaces of this process alone, removed at the end. Raises NetnsError."""
    names = [f"ntbench{os.getpid()}{mark}{which}" for which in ("r", "b")]
    made: list[str] = []
    try:
        for name in names:
            netns.create(name)
            made.append(name)
        yield names[0], names[1]
    finally:
        for name in made:
            netns.delete(name)
