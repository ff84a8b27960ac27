"""`netc set` on a live policy: real packets meet what was put in and no longer meet what was taken out; a refusal changes nothing."""

from __future__ import annotations

import subprocess
import time

import pytest
from msgspec.structs import replace

from compiler.bundle import StaticSet
from compiler.tables import members
from compiler.tables.members import V4_BASE
from runtime import set_change, set_words
from runtime.set_change import Wish
from runtime.steps import StepError, set_never
from tests.kernel.sets.policy import POLICY, Live, item, whole

BAD, WORSE, SIX = "203.0.113.9", "203.0.113.10", "2001:db8:9::1"


def test_an_added_source_is_dropped_and_a_removed_one_passes_also_over_an_apply(live: Live) -> None:
    assert live.judged(BAD) == live.judged(SIX) == "default"
    assert live.set("add", "banned", BAD, SIX) == "banned: 2 added\n"
    assert live.judged(BAD) == live.judged(SIX) == "banned"
    live.apply(POLICY.replace("dport 22", "dport 2222"))
    assert live.judged(BAD) == live.judged(SIX) == "banned"
    assert live.set("del", "banned", BAD) == "banned: 1 removed\n"
    assert (live.judged(BAD), live.judged(SIX)) == ("default", "banned")
    assert list(live.members()) == [SIX]
    live.host.netc("verify")


def test_whom_a_rule_banned_can_be_let_in_again(live: Live) -> None:
    assert (live.judged(BAD, 22), live.judged(BAD)) == ("ssh", "banned")
    assert 590 < live.members()[BAD] <= 600
    live.set("del", "banned", BAD)
    assert (live.judged(BAD), live.judged(BAD, 22), live.judged(BAD)) == ("default", "ssh", "banned")


def test_a_place_that_was_given_back_is_used_again(live: Live) -> None:
    for number in range(12):
        assert live.set("add", "banned", f"203.0.113.{number}") == "banned: 1 added\n"
        live.set("del", "banned", f"203.0.113.{number}")
    live.set("add", "banned", *(f"203.0.113.{number}" for number in range(4)))
    assert len(live.members()) == 4
    assert whole(live.context, live.bundle, item(live.bundle))


def test_one_bad_line_and_nothing_is_changed(live: Live) -> None:
    feed = live.host.directory / "feed.txt"
    feed.write_text(f"# bad people\n{BAD}\n\n203.0.113.300\n10.0.0.0/8 # a prefix\n{WORSE}\n")
    said = live.set("add", "banned", "--file", feed, status=1)
    assert f"{feed}:4: `203.0.113.300`" in said and f"{feed}:5: `10.0.0.0/8`" in said and "nothing was changed" in said
    assert live.members() == {}
    feed.write_text(f"{BAD}/32 # alone\n{BAD}\n  {SIX}  \n")
    assert live.set("add", "banned", "--file", feed) == "banned: 2 added\n"


def test_standard_input_is_a_file_too(live: Live) -> None:
    command = live.host.command("set", "add", "banned", "--file", "-")
    assert subprocess.run(command, input=f"{BAD}\n", capture_output=True, text=True, check=True).stdout == "banned: 1 added\n"
    bad = subprocess.run(command, input=f"{WORSE}\nnobody.example\n", capture_output=True, text=True, check=False)
    assert bad.returncode == 1 and "<stdin>:2: `nobody.example`" in bad.stderr and list(live.members()) == [BAD]


def test_members_of_never_are_refused_by_name(live: Live) -> None:
    for word in ("198.51.100.7", "2001:db8:1::7"):
        assert f"{word} is in office, which banned never takes" in live.set("add", "banned", BAD, word, status=1)
    assert live.members() == {}


@pytest.mark.needs("compiler")
def test_who_is_in_a_set_cannot_come_behind_its_never_until_taken_out(live: Live) -> None:
    """`protect` is proved as if no member of `never` were in the set: that has to be true also when `never` comes to name more."""
    live.set("add", "banned", BAD, SIX, "192.0.2.77")
    before = live.host.attached()
    for word in (BAD, "203.0.113.0/24"):
        said = live.set("add", "office", word, status=1)
        assert f"{BAD} would be protected by `never office`" in said and f"netc set del banned {BAD}" in said and "nothing was changed" in said
    assert live.host.attached() == before and live.judged(BAD) == "banned"
    live.set("del", "banned", BAD)
    assert live.set("add", "office", BAD).startswith("office: 1 added; applied as generation 2")
    assert BAD in live.set("add", "banned", BAD, status=1) and set(live.members()) == {SIX, "192.0.2.77"}


def test_who_is_added_before_the_flip_is_taken_out_after_it(live: Live) -> None:
    keys = [set_words.key(word) for word in (BAD, WORSE)]
    set_change.change(live.context, live.bundle, item(live.bundle), Wish(dict.fromkeys(keys, 0)))
    office = StaticSet("office", "address", members.encode([(V4_BASE + 0xCB007109, V4_BASE + 0xCB007109)]), "p.netc", 2)
    (refuse, sweep) = set_never.steps(live.context, replace(live.bundle, static=(office,)), live.bundle)
    with pytest.raises(StepError, match=BAD):
        refuse.do()
    sweep.do()
    assert list(live.members()) == [WORSE]
    assert set_never.steps(live.context, live.bundle, live.bundle) == []


def test_full_keep_refuses_all_of_it_and_full_evict_lets_the_oldest_go(live: Live) -> None:
    live.set("add", "banned", *(f"203.0.113.{n}" for n in range(3)))
    assert "banned has 4 places; 1 more are needed" in live.set("add", "banned", WORSE, SIX, status=1)
    assert len(live.members()) == 3 and live.judged(SIX) == "default"
    live.set("add", "last", "192.0.2.5", "192.0.2.6")
    assert live.set("add", "last", "192.0.2.7") == "last: 1 added; 1 others evicted to make room\n"
    assert live.members("last") == {"192.0.2.6": None, "192.0.2.7": None}
    assert all(whole(live.context, live.bundle, each) for each in live.bundle.sets)


def test_places_of_expired_members_are_taken_before_anything_is_refused(live: Live) -> None:
    live.set("add", "banned", *(f"203.0.113.{n}" for n in range(4)), "--timeout", "1ms")
    assert live.set("add", "banned", *(f"203.0.113.{n}" for n in range(2, 6))) == "banned: 4 added\n"
    assert list(live.members()) == [f"203.0.113.{n}" for n in range(2, 6)]


def test_a_live_members_time_goes_on_unless_renewed(live: Live) -> None:
    live.set("add", "banned", BAD)
    assert "members already, their time goes on" in live.set("add", "banned", BAD, "--timeout", "1d")
    assert live.members()[BAD] <= 600
    live.set("add", "banned", BAD, "--timeout", "1d", "--renew")
    assert live.members()[BAD] > 86_000
    live.set("add", "banned", BAD, "--timeout", "never", "--renew")
    assert live.members()[BAD] is None
    live.set("add", "banned", BAD, "--timeout", "20ms", "--renew")
    deadline = time.monotonic() + 10
    while live.members() and time.monotonic() < deadline:
        pass
    assert f"{BAD} was no member" in live.set("del", "banned", BAD) and live.judged(BAD) == "default"


def test_replace_puts_in_what_a_file_has_and_takes_out_the_rest(live: Live) -> None:
    live.set("add", "banned", BAD, WORSE, "--timeout", "1h")
    feed = live.host.directory / "feed.txt"
    feed.write_text(f"{WORSE}\n{SIX}\n")
    assert live.set("replace", "banned", "--file", feed) == "banned: 1 added; 1 removed; 1 members already, their time goes on\n"
    assert set(live.members()) == {WORSE, SIX} and live.members()[WORSE] > 3000
    assert (live.judged(BAD), live.judged(WORSE), live.judged(SIX)) == ("default", "banned", "banned")
    feed.write_text("".join(f"192.0.2.{n}\n" for n in range(100, 104)))
    assert "side by side" in live.set("replace", "banned", "--file", feed, status=1)
    assert set(live.members()) == {WORSE, SIX}
    assert live.set("del", "banned", "--all") == "banned: 2 removed\n" and live.members() == {}


def test_what_is_fixed_is_listed_beside_what_changes(live: Live) -> None:
    rows = {row["set"]: row for row in live.host.json("set", "list")}
    assert {name: (row["kind"], row["members"]) for name, row in rows.items()} == {
        "banned": ("dynamic", 0), "last": ("dynamic", 0), "office": ("fixed", 2), "web": ("fixed", 2)}  # fmt: skip
    assert live.set("list", "office") == "2001:db8:1::/48\n198.51.100.0/24\n" and live.set("list", "web") == "80\n8080-8089\n"
    assert "the sets are: banned, last, office, web" in live.set("list", "baned", status=1)
    assert "--timeout" in live.set("add", "banned", BAD, "--timeout", "10", status=1)
    assert "no member is named" in live.set("del", "banned", status=1)
