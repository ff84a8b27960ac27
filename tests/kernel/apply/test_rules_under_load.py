"""Rules that change in place while packets really arrive: each packet meets the old rule or the new one (bench/changes.py)."""

from __future__ import annotations

import time

import pytest

from bench import changes
from runtime import changed_rules


def test_no_packet_meets_half_a_change() -> None:
    result = changes.measure(40, 100_000)
    assert result.packets["default"] == 0 and min(result.packets["one"], result.packets["two"]) > 1000


def test_a_change_in_two_stores_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """First the tables' rule dies, then the other one comes."""
    whole = changed_rules.publish

    def halves(fd: int, size: int, content: bytes, slots: dict[int, int]) -> None:
        whole(fd, size, bytes(4) + content[4:], slots)
        time.sleep(0.01)  # its wait ends with a burst of packets: the next one shall meet this
        whole(fd, size, content, slots)

    monkeypatch.setattr(changed_rules, "publish", halves)
    assert changes.measure(40, 100_000).packets["default"] > 0
