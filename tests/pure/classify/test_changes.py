"""What a changed text means for tables that stay: where hunks lie, how boxes become entries, what is more than rules, and what no compiler writes."""

from __future__ import annotations

from pathlib import Path
from random import Random

import msgspec
import pytest

from compiler import change, change_entries, change_index, pipeline, profile, ranges
from compiler.bundle import Bundle, BundleError, Map
from compiler.source import Sources
from compiler.tables import changes
from runtime import changed_rules

FILLER = [f"  drop udp src 10.0.{n}.0/24 dport 53 as f{n}" for n in range(256)]
_DIGEST = change_index.profile_digest(None)


def text(*first: str, default: str = "default drop") -> str:
    return "\n".join(["nic wan { device wan0 }", "filter wan in {", *first, *FILLER, f"  {default}", "}", ""])


@pytest.fixture(scope="module")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Bundle, change_index.Index]:
    path = tmp_path_factory.mktemp("policy") / "p.netc"
    path.write_text(text("  drop udp dport 9 as old"))
    sources = Sources()
    made = pipeline.compile_policy(path, profile.default(), sources)
    tops = change_index.statements(made.statements, str(path), sources)
    index = change_index.make(path, sources, tops, made.program, _DIGEST, made.changeable)
    assert index is not None
    return path, made.bundle, msgspec.json.decode(msgspec.json.encode(index), type=change_index.Index)


def test_hunks_turn_the_one_text_into_the_other() -> None:
    for seed in range(300):
        rng = Random(seed)
        old = [str(rng.randrange(12)) for _ in range(rng.randrange(1, 30))]
        new = list(old)
        for _ in range(rng.randrange(4)):
            at = rng.randrange(len(new) + 1)
            new[at : at + rng.randrange(3)] = [str(rng.randrange(12))] * rng.randrange(3)
        made, at = [], 0
        for hunk in change._hunks(old, new):
            made += old[at : hunk.first] + new[hunk.new_first : hunk.new_last]
            assert len(made) == hunk.new_last
            at = hunk.last
        assert made + old[at:] == new, seed


def test_a_text_of_many_equal_lines_is_compared_in_no_time() -> None:
    """Ten thousand blank lines between rules, one rule more at each end: the square of their number would be minutes."""
    body = [line for n in range(10_000) for line in (f"rule {n}", "")]
    hunks = list(change._hunks(["a", *body, "z"], ["b", *body, "y"]))
    assert [(hunk.first, hunk.last) for hunk in hunks] == [(0, 1), (20_001, 20_002)]
    with pytest.raises(change.Whole, match="much of the policy"):
        list(change._hunks(["a", *body], ["b", *(f"other {n}" for n in range(10_000))]))


def test_values_of_bits_are_told_by_one_mask_or_one_by_one() -> None:
    for mask in range(256):
        for value in {0, mask, mask & 0x55}:
            told = change_entries._of_bits(ranges.from_bits(mask, value, 8))
            met = {flags for flags in range(256) if any(flags & m == v & m for v, m in told)}
            assert met == {flags for flags in range(256) if flags & mask == value} and len(told) == 1
    assert change_entries._of_bits(((1, 3),)) == [(1, 0xFF), (2, 0xFF), (3, 0xFF)]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (text(), "something beside"),
        (text("  drop udp dport 9 as old", default="default pass"), "something beside"),
        (text("  drop udp dport 9 as old", "  pass tcp dport 80 limit 9pps as web"), "not one for tables"),
        (text("  drop udp dport 9 as old", "  drop ttl 1 as hop"), "field that no rule asked for"),
        (text("  drop udp dport 9 as old", "  drop arp as a"), "control packets"),
        (text("  drop udp dport 9 as old", "  drop udp dport 8 as f7"), "the name of another counter"),
        (text("  drop udp dport 9 as old", "  drop udp dprt 8 as new"), "an error"),
        (text("  drop udp dport 9 as old", "  use essentials"), "more than rules|an error"),
        (text("  drop udp dport 9 as old", *(f"  drop udp dport {n} as n{n}" for n in range(1000, 1033))), "33 rules with 33 boxes"),
    ],
)
def test_what_is_more_than_rules_is_compiled_whole(compiled: tuple[Path, Bundle, change_index.Index], changed: str, why: str) -> None:
    path, _, index = compiled
    if changed == text():
        changed = changed.replace("wan0", "wan1")
    path.write_text(changed)
    with pytest.raises(change.Whole, match=why):
        change.delta(index, "0" * 64, path, _DIGEST)


def test_another_compiler_or_profile_compiles_whole(compiled: tuple[Path, Bundle, change_index.Index]) -> None:
    path, _, index = compiled
    for other in (msgspec.structs.replace(index, compiler=""), msgspec.structs.replace(index, profile="")):
        with pytest.raises(change.Whole, match="is another one"):
            change.delta(other, "0" * 64, path, _DIGEST)


def test_a_composed_bundle_is_the_old_one_but_for_what_changed(compiled: tuple[Path, Bundle, change_index.Index]) -> None:
    path, base, index = compiled
    path.write_text(text("  # moved", "  pass tcp dport { 22, 2222 } as ssh"))
    delta = change.delta(index, "0" * 64, path, _DIGEST)
    made = changes.compose(base, changes.decode(changes.encode(delta)))
    assert (made.programs, made.nft, made.settings) == (base.programs, base.nft, base.settings)
    assert [m for m in made.maps if m.role != "changes"] == [m for m in base.maps if m.role != "changes"]
    lines = {counter.name: counter.line for counter in made.counters}
    assert lines["wan.in.ssh"] == 4 and lines["wan.in.f0"] == 5 and "wan.in.old" not in lines
    assert "beside the tables" in next(p.reason for p in made.placements if p.what == "wan.in.ssh")
    assert {p.what for p in made.placements} == {p.what for p in base.placements} - {"wan.in.old"} | {"wan.in.ssh"}


def test_a_change_that_no_compiler_wrote_is_refused(compiled: tuple[Path, Bundle, change_index.Index]) -> None:
    path, base, index = compiled
    path.write_text(text("  pass tcp dport 22 as ssh"))
    delta = change.delta(index, "0" * 64, path, _DIGEST)
    with pytest.raises(BundleError, match="not a whole change"):
        changes.decode(changes.encode(delta)[:-2])
    rule = delta.added[0]
    for wrong in ({"map": "wan.xdp.arena"}, {"added": (msgspec.structs.replace(rule, nth=40),)}, {"gone": ("wan.in.seen",)}, {"gone": ("lan.in.f1",)},
                  {"added": (msgspec.structs.replace(rule, verdict="handed"),)}):  # fmt: skip
        with pytest.raises(BundleError, match="is not as a change has to be"):
            changes.decode(changes.encode(msgspec.structs.replace(delta, **wrong)))
    with pytest.raises(BundleError, match="a half of"):
        changes.compose(base, msgspec.structs.replace(delta, half=delta.half + bytes(64)))


def test_a_map_of_changes_that_reaches_out_of_itself_is_refused(compiled: tuple[Path, Bundle, change_index.Index]) -> None:
    item = next(item for item in compiled[1].maps if item.role == "changes")
    assert changed_rules.is_sound(item)

    def with_word(at: int, value: int) -> Map:
        entries = bytearray(item.entries)
        entries[4 + at : 8 + at] = value.to_bytes(4, "little")
        return msgspec.structs.replace(item, entries=bytes(entries))

    for wrong in (with_word(0, 1), with_word(4, 1 << 20), with_word(8, 1 << 20), with_word(4, 100), msgspec.structs.replace(item, entries=b""),
                  msgspec.structs.replace(item, scope="persistent"), msgspec.structs.replace(item, value_size=4096)):  # fmt: skip
        assert not changed_rules.is_sound(wrong)


def test_a_rule_that_covers_another_is_not_changed_in_place(tmp_path: Path) -> None:
    """The covered one is not in the tables: without the first, packets get to it."""
    path = tmp_path / "p.netc"
    path.write_text(text("  pass udp dport 9 as wide", "  drop udp dport 9 src 192.0.2.1 as narrow"))
    sources = Sources()
    made = pipeline.compile_policy(path, profile.default(), sources)
    tops = change_index.statements(made.statements, str(path), sources)
    index = change_index.make(path, sources, tops, made.program, _DIGEST, made.changeable)
    assert index is not None and [w.code for w in made.warnings] == ["W005"]
    path.write_text(text("  drop udp dport 9 src 192.0.2.1 as narrow"))
    with pytest.raises(change.Whole, match="that can leave by itself"):
        change.delta(index, "0" * 64, path, _DIGEST)
    path.write_text(text("  pass udp dport 9 as wide"))
    assert change.delta(index, "0" * 64, path, _DIGEST).gone == ("wan.in.narrow",)
