"""SIGKILL, ENOMEM, EBUSY, EINTR and EPERM at the system calls that change state: afterwards the old policy is in force or the new one, whole.

`make test` tries a sample (seed: the day, or NETC_CRASH_SEED), `make test-long` every call. What fails prints the command that tries it again.
"""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.crash import sweep, world
from tests.crash.inject import Call, Point
from tests.crash.sweep import Sweep
from tests.crash.transitions import TRANSITIONS, Transition

SEED = os.environ.get("NETC_CRASH_SEED") or datetime.date.today().isoformat()
SAMPLE = int(os.environ.get("NETC_CRASH_SAMPLE", "6"))  # points a transition
ALWAYS = {("rules in place", "membarrier", "EPERM"), ("settings go", "write", "EPERM")}  # what was found to go wrong once, at every such call
AGAIN = 0.25  # of the recoveries are killed, too


@pytest.mark.parametrize("transition", TRANSITIONS, ids=lambda transition: transition.name)
def test_a_sample(transition: Transition, make_netns: Callable[[], str], tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    with world.made(make_netns, tmp_path) as here:
        swept = Sweep(here, transition)
        always = [point for point in swept.points() if (transition.name, point.call.name, point.how) in ALWAYS]
        failures = swept.run([*always, *swept.sample(SEED, SAMPLE)], AGAIN, SEED)
    record_property("sweep", swept.told())
    assert not failures, "\n\n".join(failures)


@pytest.mark.long
@pytest.mark.parametrize("transition", TRANSITIONS, ids=lambda transition: transition.name)
def test_every_call(transition: Transition, make_netns: Callable[[], str], tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    with world.made(make_netns, tmp_path) as here:
        swept = Sweep(here, transition)
        failures = swept.run(swept.points(), AGAIN, SEED)
    record_property("sweep", swept.told())
    assert not failures, f"{len(failures)} of {len(swept.points())}:\n" + "\n\n".join(failures)


@pytest.mark.skipif("NETC_CRASH_POINT" not in os.environ, reason="NETC_CRASH_POINT=transition:call:number:error names one point to try again")
def test_one_point(make_netns: Callable[[], str], tmp_path: Path) -> None:
    name, call, number, how = os.environ["NETC_CRASH_POINT"].split(":")
    with world.made(make_netns, tmp_path) as here:
        swept = Sweep(here, next(each for each in TRANSITIONS if each.name == name))
        failures = swept.run([Point(Call(call, int(number), ""), how)])
        print(sweep.summary([swept.tally]), swept.log.read_text(errors="replace")[-3000:])
    assert not failures, "\n\n".join(failures)
