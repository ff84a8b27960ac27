"""One transition of tests/crash/transitions.py, cut short at one system call after the other, and each time judged: wholly old or wholly new."""

from __future__ import annotations

import random
import re
import shlex
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tests.crash import inject, looks
from tests.crash.inject import ERRORS, Point
from tests.crash.transitions import Transition
from tests.crash.world import Ended, World

RECOVERY = 2.0  # seconds (the goal of issue 4), on a machine that does nothing else
BUSY = 5  # times that on one that does
TRIAL = 1.5  # seconds in which a watchdog ends what is not on trial any more
TRIES = 3  # looks: packets may still be on their way


@dataclass
class Tally:
    """What was done: calls that change state by name, points tried (the call's name, what happened) and where they ended; the longest recovery, seconds."""

    calls: dict[str, int] = field(default_factory=dict)
    tried: list[tuple[str, str, str]] = field(default_factory=list)
    missed: int = 0
    again: int = 0
    longest: float = 0.0
    guarded: int = 0


class Sweep:
    """A transition in its world. Making it goes through it twice, whole, and learns the calls, the old look and the new one."""

    def __init__(self, world: World, transition: Transition) -> None:
        self.world, self.transition = world, transition
        self.log = world.host.directory / "trace"
        self.tally = Tally()
        self.start()
        self._traced()  # what the first change of a state directory alone makes is there from here on
        self.start()
        self.old = self._look()
        ended = self._traced()
        assert ended.status == 0, f"{transition.name} does not work: exit {ended.status}\n{ended.said}"
        self.new = self._look()
        assert looks.differences(self.old, self.new), f"{transition.name} changes nothing"
        self.calls = inject.calls(self.log)
        self.tally.calls = dict(Counter(call.name for call in self.calls))
        self.is_old = False
        self._heard()

    def _look(self) -> dict[str, Any]:
        return looks.look(self.world)

    def start(self) -> None:
        """Make the old state."""
        for command in self.transition.before:
            match command[0]:
                case "!":
                    self.world.host.run("sh", "-ec", command[1:])
                case "?":
                    self.world.prelude.run(self.world.words(command[1:]))
                case _:
                    self.world.netc(command)
        self.is_old = True

    def points(self) -> list[Point]:
        return [Point(call, how) for call in self.calls for how in ERRORS]

    def sample(self, seed: str, count: int) -> list[Point]:
        """So many points: syscalls and errors evenly, so that what is rare is met, too."""
        rng = random.Random(f"{seed} {self.transition.name}")
        kinds: dict[tuple[str, str], list[Point]] = {}
        for point in self.points():
            kinds.setdefault((point.call.name, point.how), []).append(point)
        names = list(kinds)
        rng.shuffle(names)
        return [rng.choice(kinds[names[n % len(names)]]) for n in range(count)]

    def run(self, points: Iterable[Point], again: float = 0.0, seed: str = "") -> list[str]:
        """Every point; what went wrong, with the way to see it again. again: the share of recoveries that are killed, too."""
        rng = random.Random(seed)
        failures: list[str] = []
        for point in points:
            try:
                self._point(point, rng if rng.random() < again else None)
            except AssertionError as wrong:
                failures.append(f"{self.reproduce(point, seed)}\n{wrong}")
                self._anew()
        return failures

    def told(self) -> dict[str, Any]:
        """The tally, as a test's report takes it."""
        self.tally.guarded = self.world.guard.sent
        return asdict(self.tally)

    def reproduce(self, point: Point, seed: str = "") -> str:
        """The command that tries this one point again."""
        names = f"{self.transition.name}:{point.call.name}:{point.call.number}:{point.how}"
        return f"NETC_CRASH_POINT={shlex.quote(names)} python -m pytest tests/crash/test_sweep.py -k one_point -s   # {point.call.name}({point.call.text[:160]}"

    def _point(self, point: Point, killed_again: random.Random | None) -> None:
        if not self.is_old:
            self.start()
            self._heard()
        if killed_again is None:
            ended = self._traced(*point.options())
            self.tally.missed += ended.status != -9 and "INJECTED" not in self.log.read_text(errors="replace")
        else:
            ended = self._traced(*point.options(), *self._watchdogs_end(killed_again), children=True)
            self.tally.again += len(re.findall(r"killed by SIGKILL", self.log.read_text(errors="replace"))) > 1
        unheard = re.search(r"^(?:\d+ +)?write\(2<.*INJECTED", self.log.read_text(errors="replace"), re.MULTILINE)
        assert unheard or ("Traceback" not in ended.said and "bug in netc" not in ended.said), f"exit {ended.status}: {ended.said}"
        assert ended.status in (0, 1, -9), f"exit {ended.status}: {ended.said}"
        if killed_again is None:
            self._watchdog_ends_it(ended)
        else:
            self._recover(ended)
        where = self._judge(ended)
        self._recover(ended)
        assert not (left := looks.half_written(self.world)), f"left half written: {left}"
        before = looks.raw(self.world)
        self._recover(ended)
        assert not (changed := looks.differences(before, looks.raw(self.world))), f"a second recovery changed something:\n{changed}"
        self.tally.tried.append((point.call.name, point.how, where))

    def _watchdogs_end(self, rng: random.Random) -> list[str]:
        """One of its first calls of some kind kills the watchdog, too (or the command before its time, which is as good)."""
        name, number = rng.choice((("bpf", 60), ("sendto", 200), ("sendmsg", 4), ("fsync", 4), ("unlink", 12), ("openat", 100)))
        return ["-e", f"inject={name}:signal=SIGKILL:when={rng.randint(1, number)}"]

    def _watchdog_ends_it(self, ended: Ended) -> None:
        """netc is gone: what it left is ended without another command, and a trial goes on."""
        began = time.monotonic()
        while self._unfinished():
            seconds = time.monotonic() - began
            if self.transition.trial and seconds > TRIAL:
                return
            assert seconds < RECOVERY * BUSY, f"the watchdog has not ended it: exit {ended.status}: {ended.said}"
            time.sleep(0.005)
        self.tally.longest = max(self.tally.longest, time.monotonic() - began)

    def _unfinished(self) -> bool:
        return any((state / "journal.jsonl").exists() for state in (self.world.state(), self.world.host.directory / "state"))

    def _recover(self, ended: Ended) -> None:
        own = self.world.host.directory / "state"
        where = own if (own / "journal.jsonl").exists() else self.world.state()  # whose it is, where there is nothing to recover
        done = self.world.prelude.run(self.world.words(f"recover --state-dir {where}"))
        assert done.status == 0, f"exit {ended.status}: {ended.said}\nrecovery: exit {done.status}: {done.said}"
        assert done.seconds < RECOVERY * BUSY, f"the recovery took {done.seconds:.1f} s"
        self.tally.longest = max(self.tally.longest, done.seconds)

    def _judge(self, ended: Ended) -> str:
        """old or new. Raises AssertionError for what is neither, for packets that got through, and where netc said that it had been done and it was not."""
        there: dict[str, Any] = {}
        for _ in range(TRIES):
            there = self._look()
            if there in (self.old, self.new):
                break
            time.sleep(0.1)
        told = f"exit {ended.status}: {ended.said[-1500:]}"
        assert there in (self.old, self.new), (
            f"neither old nor new; {told}\nfrom old: {looks.differences(self.old, there)}\nfrom new: {looks.differences(self.new, there)}"
        )
        where = "new" if there == self.new else "old"
        assert ended.status != 0 or where == "new", f"netc said that it was done, and it is not: {told}"
        assert ended.status != 1 or ended.said.strip(), "netc failed without a word"
        self._heard()
        self.is_old = where == "old"
        return where

    def _heard(self) -> None:
        """Nothing of the guard's got through since this was asked last; where the nic may be bare, it is only forgotten."""
        through = self.world.through()
        assert self.transition.bare or not through, f"{through} packets that both policies drop got through"

    def _traced(self, *options: str, children: bool = False) -> Ended:
        tracing = inject.tracing(self.log, self.world.host.netns, *options, children=children)
        return self.world.prelude.run(self.world.words(self.transition.command), tracing)

    def _anew(self) -> None:
        """After a failure: whatever is there goes, by netc if it can."""
        for state in {self.world.state(), self.world.host.directory / "state"}:
            (state / "journal.jsonl").unlink(missing_ok=True)
        self.world.prelude.run(self.world.words(f"remove --state-dir {self.world.state()}"))
        self.world.through()
        self.is_old = False


def summary(tallies: Sequence[Tally]) -> str:
    """What was covered of what there is, by call and by what happened to it, and how it ended."""
    counts: dict[tuple[str, str], list[int]] = {}
    for name, how, where in (each for tally in tallies for each in tally.tried):
        counts.setdefault((name, how), [0, 0])[where == "new"] += 1
    calls = sum((Counter(tally.calls) for tally in tallies), Counter[str]())
    rows = [f"{'call':<12}{'there are':>10}" + "".join(f"{how:>16}" for how in ERRORS)]
    for name in sorted(calls):
        cells = (counts.get((name, how), [0, 0]) for how in ERRORS)
        rows.append(f"{name:<12}{calls[name]:>10,}" + "".join(f"{f'{old} old {new} new':>16}" for old, new in cells))
    tried, there = sum(len(tally.tried) for tally in tallies), calls.total() * len(ERRORS)
    rows.append(
        f"{len(tallies)} transitions; {tried:,} of {there:,} points tried, {sum(tally.missed for tally in tallies)} not reached again; "
        f"{sum(tally.again for tally in tallies)} recoveries were killed, too; the longest recovery took {max(tally.longest for tally in tallies):.2f} s; "
        f"{sum(tally.guarded for tally in tallies):,} packets that nobody lets through were sent meanwhile"
    )
    return "\n".join(rows)
