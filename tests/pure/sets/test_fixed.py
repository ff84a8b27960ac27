"""Fixed sets with other members: the arithmetic, and a policy compiled again from its bundle alone."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from compiler import kept, ranges, set_members
from compiler.bundle import Bundle, Source, StaticSet
from compiler.diagnostics import CompileError
from compiler.ir import V4_BASE, Ranges
from compiler.pipeline import compile_policy, recompile
from compiler.profile import Profile, Xdp, default
from compiler.source import Sources
from compiler.tables import members
from runtime import set_differences

ROOT = Path(__file__).parents[3]
EDGE = st.sampled_from([0, 1, 2, 3, 5, 8, V4_BASE - 2, V4_BASE - 1, V4_BASE, V4_BASE + 1, V4_BASE + 2, V4_BASE + 7])
RANGES = st.lists(st.tuples(EDGE, EDGE).map(lambda pair: (min(pair), max(pair))), max_size=6)


def compiled(path: Path) -> Bundle:
    return compile_policy(path, default(), Sources()).bundle


def bundle_of(*static: StaticSet) -> Bundle:
    return Bundle(policy="p", policy_sha256="", netc="0", nics=(), maps=(), programs=(), counters=(), nft=(), trees=(), settings=(), placements=(),
                  expects=(), sets=(), static=static)  # fmt: skip


def static(held: Ranges, kind: str = "address") -> StaticSet:
    return StaticSet("s", kind, kept.encoded(kind, held), "p.netc", 1)


@given(RANGES, RANGES)
def test_what_one_set_holds_and_another_does_not(have: list[tuple[int, int]], want: list[tuple[int, int]]) -> None:
    had, wanted = ranges.normalize(have), ranges.normalize(want)
    found = members.missing(members.encode(had), members.encode(wanted))
    assert ranges.normalize(found) == ranges.normalize(ranges.subtract(wanted, had))


@given(RANGES, RANGES, st.sampled_from(["add", "del", "replace", "clear"]))
def test_a_change_is_union_difference_or_the_list_itself(have: list[tuple[int, int]], named: list[tuple[int, int]], action: set_members.Action) -> None:
    had, named = ranges.normalize(have), [] if action == "clear" else named
    item = static(had)
    done = set_members.change(bundle_of(item), item, action, named)
    now = had if done.bundle is None else kept.ranges(done.bundle.static[0])
    given_ = ranges.normalize(named)
    assert now == {"add": ranges.normalize((*had, *given_)), "del": ranges.subtract(had, given_)}.get(action, given_)
    assert (done.bundle is None) == (now == had) and (done.bundle is None or done.bundle.static[0].by_hand)
    if action == "del":
        assert done.removed == sum(ranges.meet(had, (each,)) for each in named) and len(done.absent) == len(named) - done.removed
    else:
        assert done.kept == sum(not ranges.subtract((each,), had) for each in named) and done.added + done.kept == len(named)


def test_ports_are_ports_also_in_words() -> None:
    item = static(((80, 80), (8080, 8089)), "port")
    assert set_members.change(bundle_of(item), item, "del", [(443, 443), (8000, 8010)]).absent == ("443", "8000-8010")
    now = set_members.change(bundle_of(item), item, "replace", [(80, 81)])
    assert (now.added, now.kept, now.removed) == (1, 0, 1) and now.bundle is not None
    (difference,) = set_differences.differences(bundle_of(item), now.bundle)
    assert (difference.loses, difference.gains) == (("8080-8089",), ("81",))
    assert set_differences.line(difference) == "s loses 8080-8089 and gains 81"


def test_many_members_are_counted_and_another_type_is_all_new() -> None:
    held = tuple((V4_BASE + 4 * n, V4_BASE + 4 * n) for n in range(5))
    item, ports = static(held), static(((1, 1),), "port")
    assert set_differences.line(set_differences.differences(bundle_of(item), bundle_of(static(())))[0]) == "s loses 5 members"
    (difference,) = set_differences.differences(bundle_of(item), bundle_of(ports))
    assert difference.gains == ("1",) and len(difference.loses) == 5
    assert set_differences.differences(bundle_of(item), bundle_of(item)) == set_differences.differences(None, bundle_of(item)) == []


@pytest.mark.parametrize("name", sorted(path.name for path in (ROOT / "policies").glob("*.netc")))
def test_a_bundle_compiled_again_is_the_same_bundle(name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = compiled(ROOT / "policies" / name)
    monkeypatch.chdir(tmp_path)
    again = recompile(made, Sources()).bundle
    assert replace(again, policy_sha256="") == replace(made, policy_sha256="")


def test_includes_are_found_again_by_the_way_that_led_to_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`link/../b.netc` is not `b.netc` where link leads elsewhere; an absolute path stays one."""
    (tmp_path / "far/deep").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    (tmp_path / "here/link").symlink_to(tmp_path / "far/deep")
    (tmp_path / "here/b.netc").write_text("set b = { 192.0.2.1 }\n")
    (tmp_path / "far/b.netc").write_text('set c = { 192.0.2.2 }\ninclude "d.netc"\n')
    (tmp_path / "far/d.netc").write_text("set d = { 192.0.2.3 }\n")
    (tmp_path / "e.netc").write_text("set e = { 192.0.2.4 }\n")
    policy = f'nic wan {{ device eth9 }}\ninclude "b.netc"\ninclude "link/../b.netc"\ninclude "{tmp_path}/e.netc"\n'
    (tmp_path / "here/p.netc").write_text(f"{policy}filter wan in {{ {'; '.join(f'drop src in {n} as r-{n}' for n in 'bcde')}; default pass }}\n")
    made = compiled(tmp_path / "here/p.netc")
    assert [source.name for source in made.sources] == ["p.netc", "b.netc", "link/../b.netc", "link/../d.netc", f"{tmp_path}/e.netc"]
    monkeypatch.chdir("/")
    for path in sorted(tmp_path.rglob("*.netc")):
        path.unlink()
    again = recompile(made, Sources()).bundle
    assert replace(again, policy_sha256="") == replace(made, policy_sha256="")
    assert {item.name: item.file for item in again.static}["e"] == f"{tmp_path}/e.netc"


def test_the_profile_is_the_one_of_before_without_its_facts(tmp_path: Path) -> None:
    path = tmp_path / "p.netc"
    path.write_text("nic wan { device eth9 }\nfilter wan in { default pass }\n")
    profile = Profile(format="netc-profile 1", name="mine", xdp=Xdp(native=True, metadata=True), facts={"serial": "secret"})
    made = compile_policy(path, profile, Sources()).bundle
    assert kept.profile_of(made) == replace(profile, facts={}) and "secret" not in made.profile


@pytest.mark.parametrize("text", [b"", b"no zlib", b"\x78\x01\x03"])
def test_texts_that_cannot_be_read_are_refused(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "p.netc"
    path.write_text("nic wan { device eth9 }\nfilter wan in { default pass }\n")
    made = compiled(path)
    with pytest.raises(CompileError, match="N001"):
        recompile(replace(made, sources=(Source("p.netc", text),)), Sources())
    text = b'nic wan { device eth9 }\ninclude "/etc/passwd"\nset s = file "/etc/passwd"\nfilter wan in { drop src in s as s; default pass }\n'
    with pytest.raises(kept.KeptError, match="does not hold the members of `s`"):  # nothing is read from disk
        recompile(replace(made, sources=(Source("p.netc", zlib.compress(text)),)), Sources())
    with pytest.raises(kept.KeptError, match="apply the policy again"):
        recompile(replace(made, sources=()), Sources())
    with pytest.raises(kept.KeptError, match="apply the policy again"):
        recompile(replace(made, profile="{}"), Sources())


def test_what_a_changed_bundle_was_made_from_has_another_digest(tmp_path: Path) -> None:
    path = tmp_path / "p.netc"
    path.write_text("nic wan { device eth9 }\nset s = { 192.0.2.1 }\nfilter wan in { drop src in s as s; default pass }\n")
    made = compiled(path)
    digests = {made.policy_sha256}
    for number in (1, 2):
        item = replace(made.static[0], ranges=members.encode([(V4_BASE, V4_BASE + number)]), by_hand=True)
        again = recompile(replace(made, static=(item,)), Sources()).bundle
        assert again.static == (item,) and again.programs != made.programs or again.maps != made.maps
        digests.add(again.policy_sha256)
    assert len(digests) == 3 and all(len(each) == len(hashlib.sha256().hexdigest()) for each in digests)
