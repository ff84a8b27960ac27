"""How large a counter map is, and that too many rules are refused before anything is made of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler import bundle, pipeline, profile
from compiler.diagnostics import CompileError
from compiler.source import Sources
from compiler.targets import xdp

POLICY = """nic wan { device wan0 }
filter wan in {
  drop udp dport 53 as dns
  pass tcp dport 22 as ssh
  drop src 192.0.2.1 limit 10pps as one
  default drop
}
shape wan out rate 1gbit { class all { default } }
"""


def compiled(folder: Path) -> bundle.Bundle:
    (path := folder / "p.netc").write_text(POLICY)
    return pipeline.compile_policy(path, profile.default(), Sources()).bundle


def test_a_map_has_room_for_twice_the_counters() -> None:
    for counters in (0, 1, 8191, 8192, 100_000, bundle.MAX_COUNTERS):
        size = bundle.counter_slots(counters)
        assert 2 * counters < size and (size == bundle.COUNTER_SLOTS[0] or 4 * (counters + 1) > size)


def test_all_programs_of_a_nic_have_one_counter_map(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[int] = []
    monkeypatch.setattr(bundle, "counter_slots", lambda counters: asked.append(counters) or bundle.COUNTER_SLOTS[3])
    made = compiled(tmp_path)
    assert len(made.programs) == 2 and len(set(asked)) == 1 and asked[0] >= len(made.counters)
    assert [item.max_entries for item in made.maps if item.role == "counters"] == [bundle.COUNTER_SLOTS[3]]


def test_too_many_rules_are_refused_before_anything_else_with_both_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_COUNTERS", 2)
    monkeypatch.setattr("compiler.passes.run", lambda program: pytest.fail("passes were run"))
    with pytest.raises(CompileError) as caught:
        compiled(tmp_path)
    (found,) = caught.value.diagnostics
    assert (found.code, found.message) == ("N901", "nic wan needs 3 counters, one for each rule; 2 are possible")
    assert found.span.line == 2


def test_what_is_not_a_rule_counts_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_COUNTERS", 5)
    monkeypatch.setattr(xdp, "_Program", lambda *_: pytest.fail("a program was begun"))
    with pytest.raises(CompileError, match="5 are possible"):
        compiled(tmp_path)


def test_only_limited_rules_have_a_bucket(tmp_path: Path) -> None:
    made = compiled(tmp_path)
    (item,) = (item for item in made.maps if item.role == "bucket-slots")
    index = int.from_bytes(item.entries[4:], "little")
    assert [c.name for c in made.counters if (c.program, c.index) == ("wan.xdp", index)] == ["wan.in.one"] and item.value_size == 4
