"""Members as words and as bytes, times, and the program of `netc set` as it is kept."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from compiler.bundle import Bundle, DynamicSet, Map, StaticSet, encode
from compiler.ranges import normalize
from compiler.tables import durations, members, set_change
from compiler.targets import set_change as source
from runtime import set_view, set_words, state
from runtime.state import Record, Store

V4 = members.V4_BASE
ORDINALS = st.one_of(st.integers(0, V4 - 1), st.integers(V4, V4 + 2**32 - 1))
BUNDLE = Bundle(
    policy="p", policy_sha256="", netc="0", nics=(), maps=(), programs=(), counters=(), nft=(), trees=(), settings=(), placements=(),
    expects=(), sets=(), static=(StaticSet("office", "address", members.encode([(1, 5), (V4 + 10, V4 + 20)]), "p.netc", 1),),
)  # fmt: skip


@given(st.lists(st.tuples(ORDINALS, ORDINALS).map(lambda pair: (min(pair), max(pair))), max_size=20), ORDINALS)
def test_ranges_come_back_as_they_went(ranges: list[tuple[int, int]], probe: int) -> None:
    wanted = normalize(ranges)
    got = members.decode(members.encode(wanted))
    assert normalize(got) == normalize(wanted)
    probes = {probe, *(edge + step for each in got for edge in each for step in (-1, 0, 1))}
    addresses = {((n - V4).to_bytes(4, "big") if n >= V4 else n.to_bytes(16, "big")): n for n in probes if 0 <= n < V4 + 2**32}
    assert members.held(members.encode(wanted), addresses) == [a for a, n in addresses.items() if any(low <= n <= high for low, high in wanted)]


@pytest.mark.parametrize("data", [b"", b"\1\0\0\0", members.encode([(1, 5), (V4, V4)])[:-1], members.encode([(1, 5)])[:-1]])
def test_cut_members_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match="cut"):
        members.decode(data)


def test_a_range_is_shown_as_its_prefixes() -> None:
    assert list(members.words(V4 + 1, V4 + 4)) == ["0.0.0.1", "0.0.0.2/31", "0.0.0.4"]
    assert list(members.words(0, V4 - 1)) == ["::/0"]


@pytest.mark.parametrize(("text", "ns"), [("10m", 600 * 10**9), ("1.5s", 1_500_000_000), ("2d", 172_800 * 10**9), ("1ns", 1)])
def test_times(text: str, ns: int) -> None:
    assert durations.nanoseconds(text) == ns


@pytest.mark.parametrize("text", ["", "10", "0s", "10M", "-1s", "1 s", "never", "99999999999999d", "0.1ns"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(ValueError, match="length of time"):
        durations.nanoseconds(text)


@pytest.mark.parametrize(("ns", "text"), [(0, "0s"), (1, "1s"), (600 * 10**9, "10m"), (598 * 10**9, "9m58s"), (90_061 * 10**9, "1d1h")])
def test_times_as_people_read_them(ns: int, text: str) -> None:
    assert durations.written(ns) == text


def test_a_key_is_what_programs_look_up() -> None:
    assert set_words.key("192.0.2.1") == set_words.key("192.0.2.1/32") == b"\4\0\0\0\xc0\0\2\1" + bytes(12)
    assert set_words.key("2001:db8::1/128") == b"\6\0\0\0\x20\x01\x0d\xb8" + bytes(11) + b"\1"
    assert set_words.written(set_words.key("2001:db8::1")) == "2001:db8::1"


@pytest.mark.parametrize("word", ["192.0.2.0/24", "192.0.2.1-192.0.2.9", "192.0.2.1/", "192.0.2.1/33", "2001:db8::/32", "fe80::1%eth0", "a.b", "80", "1.2.3"])
def test_what_is_no_single_address(word: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        set_words.key(word)


def test_many_wrong_lines_are_counted_not_all_shown(tmp_path: Path) -> None:
    file = tmp_path / "feed"
    file.write_text("x\n" * 25)
    with pytest.raises(set_words.MembersError) as error:
        set_words.keys((), str(file))
    assert f"{file}:10: `x`" in str(error.value) and f"{file}:11" not in str(error.value) and "15 more are wrong" in str(error.value)


def test_files_that_are_no_lists(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"192.0.2.1\n\xff\xfe\n")
    with pytest.raises(set_words.MembersError, match="binary:2: this is not UTF-8"):
        set_words.keys((), str(tmp_path / "binary"))
    with pytest.raises(set_words.MembersError, match="not a regular file"):
        set_words.keys((), "/dev/null")


def test_never_names_the_set_and_the_member() -> None:
    banned = DynamicSet("banned", "wan", 1, 4, 0, "keep", ("office",))
    set_words.refuse_protected(BUNDLE, banned, [set_words.key("0.0.0.9"), set_words.key("::6")])
    with pytest.raises(set_words.MembersError, match="0.0.0.10 is in office, which banned never takes"):
        set_words.refuse_protected(BUNDLE, banned, [set_words.key("0.0.0.10")])
    with pytest.raises(set_words.MembersError, match="::5 and 1 more are in office"):
        set_words.refuse_protected(BUNDLE, banned, [set_words.key("::5"), set_words.key("0.0.0.20")])


def test_the_kept_program_is_the_one_of_the_source() -> None:
    kept = (Path(set_change.__file__).with_name("set_change.json")).read_text()
    made = source.kept()
    assert json.loads(kept)["source"] == json.loads(made)["source"], "run: python -m compiler.targets.set_change > compiler/tables/set_change.json"


def test_the_size_is_put_into_the_program_once() -> None:
    mark = set_change.SIZE_MARK.to_bytes(4, "little")
    assert set_change.code(set_change.SIZE_MARK).count(mark) == 1
    assert mark not in set_change.code(1000) and (1000).to_bytes(4, "little") in set_change.code(1000)


def test_numbers_are_those_of_the_c() -> None:
    text = source.read_part("set_change.h")
    for name in ("ADD", "DELETE", "SETTLE", "UNDO", "SWEEP"):
        assert f"#define OP_{name} {getattr(set_change, name)} " in text
    names = text.partition("enum { ")[2].partition(" }")[0].split(", ")
    assert [getattr(set_change, name) for name in names] == list(range(10))
    assert f"#define BATCH_ENTRIES {set_change.ENTRIES}\n" in text


def test_nothing_slow_is_imported() -> None:
    """What a change of a set costs is mostly what Python imports."""
    code = ("import sys; at_start = set(sys.modules); from runtime import cli, set_change, set_words, set_view, lock, output; "
            "from runtime.commands import sets; cli.parser('set'); print(*(set(sys.modules) - at_start))")  # fmt: skip
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3]).stdout.split()
    slow = {"lark", "pyroute2", "bcc", "numpy", "tempfile", "msgspec", "dataclasses", "inspect", "hashlib", "compiler.bundle", "compiler.ir", "runtime.state", "runtime.apply"}
    assert not slow & set(loaded)


def test_a_view_has_what_changes_of_dynamic_sets_ask_for(tmp_path: Path) -> None:
    """Of what is installed since this boot; anything else is no view, and the bundle is read."""
    banned = DynamicSet("banned", "wan", 7, 4, 5, "evict", ("office",))
    maps = tuple(Map(n, f"wan.m{n}", "hash", 20, 24, 4, 1, "persistent", role, b"much") for n, role in ((7, "set"), (8, "ring"), (9, "change"), (10, "")))
    whole = replace(BUNDLE, sets=(banned,), maps=maps, static=(*BUNDLE.static, StaticSet("web", "port", members.encode([(V4 + 80, V4 + 80)]), "p.netc", 2)))
    store = Store(tmp_path)
    store.prepare()
    name = store.keep_bundle(encode(whole), whole)
    assert set_view.installed(tmp_path) is None
    store.write_record(state.installed_now(Record(), name, "p", {}))
    view = set_view.installed(tmp_path)
    assert view is not None
    assert [tuple(each) for each in view.maps] == [tuple(getattr(m, f) for f in set_view.Map._fields) for m in maps[:3]]
    assert (view.sets[0].name, view.sets[0].map, view.sets[0].timeout, tuple(view.sets[0].never)) == ("banned", 7, 5, ("office",))
    assert {each.name: each.ranges for each in view.static} == {"office": BUNDLE.static[0].ranges, "web": b""}
    with pytest.raises(set_words.MembersError, match="0.0.0.10 is in office"):
        set_words.refuse_protected(view, view.sets[0], [set_words.key("0.0.0.10")])
    (tmp_path / "bundles" / f"{name}.sets").write_bytes(b'{"maps": [[1]]}')
    assert set_view.installed(tmp_path) is None
    store.keep_bundle(encode(whole), whole)
    installed = store.record()
    assert installed.current is not None
    store.write_record(replace(installed, current=replace(installed.current, boot="another")))
    assert set_view.installed(tmp_path) is None
    store.write_record(Record())
    assert list((tmp_path / "bundles").iterdir()) == []
