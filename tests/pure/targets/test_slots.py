"""Slots of counters: kept by name, never shared, never slot 0."""

from __future__ import annotations

import pytest

from compiler.bundle import COUNTER_SLOTS
from runtime.slots import SlotsError, assign_slots

SIZE = COUNTER_SLOTS[0]


def test_a_name_keeps_its_slot() -> None:
    first = assign_slots(["a", "b"], {}, SIZE)
    second = assign_slots(["c", "b"], first, SIZE)
    assert second["b"] == first["b"] and second["a"] == first["a"]
    assert len(set(second.values())) == 3 and 0 not in second.values()


def test_old_names_go_only_when_there_is_no_room() -> None:
    full = {f"old{i}": i for i in range(1, SIZE)}
    made = assign_slots(["old7", "new"], full, SIZE)
    assert made["old7"] == 7 and set(made) == {"old7", "new"}


def test_more_than_there_are_is_refused() -> None:
    with pytest.raises(SlotsError, match=str(SIZE - 1)):
        assign_slots([str(i) for i in range(SIZE)], {}, SIZE)
