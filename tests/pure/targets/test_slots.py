"""Slots of counters: kept by name, never shared, never slot 0."""

from __future__ import annotations

import pytest

from compiler.bundle import COUNTER_SLOTS
from runtime.slots import SlotsError, assign_slots


def test_a_name_keeps_its_slot() -> None:
    first = assign_slots(["a", "b"], {})
    second = assign_slots(["c", "b"], first)
    assert second["b"] == first["b"] and second["a"] == first["a"]
    assert len(set(second.values())) == 3 and 0 not in second.values()


def test_old_names_go_only_when_there_is_no_room() -> None:
    full = {f"old{i}": i for i in range(1, COUNTER_SLOTS)}
    made = assign_slots(["old7", "new"], full)
    assert made["old7"] == 7 and set(made) == {"old7", "new"}


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(SlotsError, match=str(COUNTER_SLOTS - 1)):
        assign_slots([str(i) for i in range(COUNTER_SLOTS)], {})
