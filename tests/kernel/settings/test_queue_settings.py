"""XPS, RPS and the other files of the queues outlive a change of the number of queues, whoever set them, in whatever order policies come."""

from __future__ import annotations

import os
from random import Random

import pytest

from compiler.bundle import Setting
from runtime.backends import ethtool
from runtime.backends.sysfs import Sysfs
from runtime.context import Context
from runtime.steps import Step, settings
from runtime.steps.saved_settings import SavedSettings
from tests.kernel.settings.bundles import bundle, setting

pytestmark = pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two CPUs")
TWO, FOUR, THREE = (setting("channels", "combined", count) for count in (2, 4, 3))
XPS, RPS = setting("xps", "cpus", (1,)), setting("rps", "cpus", (0, 1))
SETS = ((), (TWO,), (TWO, XPS), (XPS,), (FOUR, XPS), (FOUR,), (THREE, RPS), (RPS,), (RPS, XPS), (TWO, RPS, XPS))
BY_HAND = {"rx-1/rps_cpus": "1", "rx-3/rps_cpus": "2", "rx-2/rps_flow_cnt": "64", "tx-0/xps_cpus": "1", "tx-3/xps_cpus": "3"}


@pytest.fixture(params=[2, 4], ids=["two-at-first", "four-at-first"])
def start(request: pytest.FixtureRequest, context: Context) -> dict[str, str]:
    """A device whose queues somebody has set by hand, each its own way."""
    ethtool.put("va0", "channels", {"rx": request.param, "tx": request.param})
    with Sysfs() as tree:
        for path, value in BY_HAND.items():
            if tree.exists(f"class/net/va0/queues/{path}"):
                tree.write(f"class/net/va0/queues/{path}", value)
    found = queues()
    assert sum(value.strip("0") != "" for value in found.values()) >= 2
    return found


def queues() -> dict[str, str]:
    """Every file of every queue: which there are says how many queues."""
    found = {}
    with Sysfs() as tree:
        for queue in tree.names("class/net/va0/queues"):
            for file in ("rps_cpus", "rps_flow_cnt", "xps_cpus", "xps_rxqs", "tx_maxrate"):
                path = f"class/net/va0/queues/{queue}/{file}"
                if tree.exists(path):
                    found[f"{queue}/{file}"] = tree.read(path)
    return found


def turn(context: Context, wanted: tuple[Setting, ...] | None) -> list[Step]:
    """Apply these settings (None: remove), in the order of an apply: what disrupts first. Nothing is skipped."""
    made = settings.steps(context, bundle(*wanted) if wanted is not None else None, None, 1)
    made.sort(key=lambda step: not step.resets)
    for step in made:
        step.do()
    for step in made:
        step.check()
    assert settings.skipped(made) == []
    return made


@pytest.mark.parametrize("wanted", SETS[1:], ids=lambda wanted: "-".join(f"{item.group}{item.value}" for item in wanted))
def test_given_back_as_it_was(context: Context, start: dict[str, str], wanted: tuple[Setting, ...]) -> None:
    turn(context, wanted)
    assert settings.steps(context, bundle(*wanted), None, 2) == [], "it holds, and nothing waits"
    turn(context, None)
    assert queues() == start
    assert SavedSettings(context.state).all() == {}


@pytest.mark.parametrize("wanted", SETS[1:], ids=lambda wanted: "-".join(f"{item.group}{item.value}" for item in wanted))
def test_undone_as_it_was(context: Context, start: dict[str, str], wanted: tuple[Setting, ...]) -> None:
    for step in reversed(turn(context, wanted)):
        step.undo()
    assert queues() == start
    assert SavedSettings(context.state).all() == {}


def test_steering_leaves_before_the_channels_do(context: Context, start: dict[str, str]) -> None:
    """The queues that there are get theirs back at once, the others with the channels."""
    turn(context, (TWO, XPS, RPS))
    turn(context, (TWO,))
    assert queues() == {path: value for path, value in start.items() if path[3] in "01"}
    turn(context, ())
    assert queues() == start


def test_one_policy_after_the_other(context: Context, start: dict[str, str]) -> None:
    """Any walk over policies, undone at times: the same policy, the same queues; and back at the beginning in the end."""
    rng = Random(7)
    seen: dict[int, dict[str, str]] = {}
    for _ in range(40):
        at = rng.randrange(len(SETS))
        before, kept = queues(), SavedSettings(context.state).all()
        made = turn(context, SETS[at])
        assert settings.steps(context, bundle(*SETS[at]), None, 2) == []
        assert seen.setdefault(at, queues()) == queues(), SETS[at]
        if rng.random() < 0.4:
            for step in reversed(made):
                step.undo()
            assert queues() == before and SavedSettings(context.state).all() == kept, SETS[at]
    turn(context, None)
    assert queues() == start and SavedSettings(context.state).all() == {}
