"""A few dozen swaps of whole policies under load, as bench/swaps.py measures a thousand: no packet is judged by neither policy."""

from __future__ import annotations

import pytest

from bench import swaps


@pytest.mark.parametrize("stage", swaps.STAGES)
def test_no_packet_is_judged_by_neither(stage: str) -> None:
    with swaps.rig(stage) as made:
        result = swaps.measure(made, 12, 100_000)
        control = swaps.measure(made, 0, 100_000)
    assert result.swaps >= 12 and sum(result.sent.values()) >= 100_000
    assert swaps.judged_by_neither(result, control, stage) == 0, swaps.report(stage, result, control)
    if stage != "tc":
        assert result.through[swaps.CLOSED] == 0 and all(0 < result.through[port] < result.sent[port] for port in (swaps.OF_A, swaps.OF_B))
