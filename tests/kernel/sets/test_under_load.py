"""Sets that change while packets really arrive: each packet is judged by all of the old or all of the new members (bench/changes_sets.py)."""

from __future__ import annotations

import os

import pytest

from bench import changes_sets

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")


@pytest.mark.parametrize(("fixed", "changes"), [(False, 50), (True, 3)])
def test_every_packet_is_judged_by_the_old_or_the_new_members(fixed: bool, changes: int) -> None:
    result = changes_sets.measure(changes, 100_000, fixed)
    assert result.changes >= changes and result.packets["source"] > 1000 and result.packets["target"] > 1000
    assert result.neither == 0, result.packets
