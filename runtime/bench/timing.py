"""Timing by the method of the kernel's own bench_bpf_timing.c: calibrated batches, all subjects in turn within each round.

BPF_PROG_TEST_RUN reports whole nanoseconds only, so a clock is read around a batch of many packets: the thread's own CPU time (in ns,
sum_exec_runtime), which on an idle machine is the wall clock, and on a busy one leaves out what others took meanwhile; both are read, and
batches that were interrupted are counted. A batch is calibrated until twice the packets take twice the time. Machines drift: what
counts are differences and ratios within one round, their median over rounds.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

BATCH = 0.02  # seconds that a batch shall take
PROPORTIONAL = 0.05  # how far from 2 the ratio of the times of 2N and N packets may be, relatively
TRIES = 6
ROUNDS_MIN = 5
REPEAT_MAX = 1 << 24
Run = Callable[[int], object]  # judges that many packets


@dataclass(frozen=True, slots=True)
class Spread:
    """Of batches, ns a packet."""

    median: float
    low: float  # first quartile
    high: float  # third quartile
    p99: float


@dataclass(frozen=True, slots=True)
class Measured:
    """One subject over one table of flows.

    over_floor: the differences within rounds; steady: 2N took twice as long as N; interrupted: batches in which others had the CPU for a while.
    """

    subject: str
    scenario: str
    flows: int
    packets: int  # a batch
    batches: int
    steady: bool
    interrupted: int
    total: Spread
    over_floor: Spread | None
    to_by_hand: float | None  # median of the ratios of totals within rounds


def spread(values: Sequence[float]) -> Spread:
    ordered = sorted(values)
    quartiles = statistics.quantiles(ordered, n=4, method="inclusive") if len(ordered) > 1 else [ordered[0]] * 3
    return Spread(statistics.median(ordered), quartiles[0], quartiles[2], ordered[min(len(ordered) - 1, -(-99 * len(ordered) // 100) - 1)])


@dataclass(frozen=True, slots=True)
class Timed:
    """Seconds that a batch took: of this thread, and of the wall clock."""

    own: float
    wall: float

    @property
    def interrupted(self) -> bool:
        return self.wall > self.own * (1 + PROPORTIONAL)


def timed(run: Run, packets: int) -> Timed:
    wall, own = time.perf_counter_ns(), time.thread_time_ns()
    run(packets)
    own, wall = time.thread_time_ns() - own, time.perf_counter_ns() - wall
    return Timed(own / 1e9, wall / 1e9)


def _own_time(run: Run, packets: int) -> float:
    return timed(run, packets).own


def calibrate(run: Run, batch: float = BATCH, clock: Callable[[Run, int], float] = _own_time) -> tuple[int, bool]:
    """Packets a batch so that it takes about `batch` seconds, and whether time is proportional to packets there."""
    packets = 256
    while (took := clock(run, packets)) < batch / 4 and packets < REPEAT_MAX:
        packets *= 2
    packets = max(256, min(REPEAT_MAX, round(packets * batch / took)))
    for _ in range(TRIES):
        once, twice = (statistics.median(clock(run, n) for _ in range(3)) for n in (packets, 2 * packets))
        if once < batch / 2 and packets < REPEAT_MAX:  # it was disturbed when it was sized: a small batch measures the system call
            packets = min(REPEAT_MAX, round(packets * batch / once))
        elif abs(twice / once / 2 - 1) <= PROPORTIONAL:
            return packets, True
    return packets, False


@dataclass(slots=True)
class Series:
    """One subject's batches: how many packets each, and ns a packet round by round."""

    packets: int
    steady: bool
    values: list[float] = field(default_factory=list)
    interrupted: int = 0


def measure(
    point: Callable[[str], Run], subjects: Sequence[str], seconds: float, batch: float, warm: int
) -> dict[str, Series]:
    """The series of every subject. point: makes a subject the next to run.

    Rounds take the subjects in turn, each time beginning with another; `warm` packets go before each batch, untimed.
    """
    sizes: dict[str, tuple[int, bool]] = {}
    for subject in subjects:
        run = point(subject)
        run(warm)
        sizes[subject] = calibrate(run, batch)
    taken = {subject: Series(*sizes[subject]) for subject in subjects}
    until, rounds = time.perf_counter() + seconds * len(subjects), 0
    while rounds < ROUNDS_MIN or time.perf_counter() < until:
        for i in range(len(subjects)):
            subject = subjects[(i + rounds) % len(subjects)]
            run = point(subject)
            run(warm)
            series = taken[subject]
            took = timed(run, series.packets)
            series.values.append(took.own / series.packets * 1e9)
            series.interrupted += took.interrupted
        rounds += 1
    return taken


def summarise(taken: dict[str, Series], scenario: str, flows: int, floor: str, by_hand: str) -> list[Measured]:
    """Each subject beside the floor and the program by hand of the same round."""
    made = []
    for subject, series in taken.items():
        over = None if subject == floor else spread([v - f for v, f in zip(series.values, taken[floor].values, strict=True)])
        ratio = None
        if by_hand in taken and subject not in (floor, by_hand):
            ratio = statistics.median(v / h for v, h in zip(series.values, taken[by_hand].values, strict=True))
        total, count = spread(series.values), len(series.values)
        made.append(Measured(subject, scenario, flows, series.packets, count, series.steady, series.interrupted, total, over, ratio))
    return made
