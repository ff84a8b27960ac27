"""`netc set` on fixed sets of a live policy: real packets meet the new members, every proof is made again, a refusal changes nothing."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from msgspec.structs import replace

from compiler import bundle as bundles
from compiler import ir
from tests.kernel.apply import hosts
from tests.kernel.sets.policy import Live

pytestmark = pytest.mark.needs("compiler")

POLICY = """\
nic wan { device wan0; xdp native }
include "parts/sets.netc"
set web = { 80, 8080-8089 }
set feed = file "feed.txt"
set both = { office, feed }
protect wan { tcp dport 22 src in office }
filter wan in {
  drop src in feed as feed
  pass tcp dport 22 src in office as ssh
  drop udp dport in web as web
  drop src in both as both
  default pass
}
"""
FEED, OFFICE, NEW = "203.0.113.77", "198.51.100.7", "192.0.2.200"


@pytest.fixture
def fixed(make_netns: Callable[[], str], tmp_path: Path) -> Iterator[Live]:
    with hosts.host(make_netns, tmp_path) as made:
        (tmp_path / "parts").mkdir()
        (tmp_path / "parts/sets.netc").write_text("set office = { 198.51.100.0/24, 2001:db8:1::/48 }\n")
        (tmp_path / "feed.txt").write_text("203.0.113.64/26\n2001:db8:bad::/48\n")
        live = Live(made)
        live.apply(POLICY)
        yield live


def met(live: Live, *packets: tuple[str, int]) -> dict[str, int]:
    """Which rules so many UDP packets from (source) to (port) met; they are really sent."""
    before = live.host.counts()
    for source, dport in packets:
        live.host.send(ir.PacketSpec("udp", source, "192.0.2.1", 40000, dport))
    after = live.host.counts()
    moved = {name.rpartition(".")[2]: count - before[_, name] for (_, name), count in after.items()}
    return {name: count for name, count in moved.items() if count and name not in ("seen", "control")}


def test_packets_meet_what_was_added_and_no_longer_what_was_taken_out(fixed: Live) -> None:
    assert met(fixed, (NEW, 53), (FEED, 53), (OFFICE, 53), (NEW, 8085)) == {"default": 1, "feed": 1, "both": 1, "web": 1}
    for path in ("parts/sets.netc", "feed.txt", "p.netc"):
        (fixed.host.directory / path).unlink()  # nothing is read from them again
    assert fixed.set("add", "feed", "192.0.2.128/25", "2001:db8:bad:1::1").startswith("feed: 1 added; 1 members already; applied as generation ")
    assert fixed.set("del", "feed", f"{FEED}/32", "8.8.8.8").splitlines()[1:] == ["  8.8.8.8 was no member"]
    fixed.set("del", "web", "8085")
    fixed.set("add", "web", "9000-9009", "9005")
    fixed.set("del", "office", "--all")  # `both` holds it, and follows
    assert met(fixed, (NEW, 53), (FEED, 53), (OFFICE, 53), ("192.0.2.1", 8085), ("192.0.2.1", 9005)) == {"feed": 1, "web": 1, "default": 3}
    assert fixed.set("list", "web") == "80\n8080-8084\n8086-8089\n9000-9009\n"
    fixed.host.netc("verify")


def test_a_list_by_standard_input_takes_the_place_of_all_members(fixed: Live) -> None:
    command = fixed.host.command("set", "replace", "feed", "--json", "--file", "-")
    done = subprocess.run(command, input=f"{NEW}\n203.0.113.64/26 # still\n", capture_output=True, text=True, check=True)
    assert '"added": 1' in done.stdout and '"kept": 1' in done.stdout and '"removed": 1' in done.stdout and "p.netc itself was not changed" in done.stderr
    assert fixed.set("list", "feed") == f"{NEW}\n203.0.113.64/26\n"
    bad = subprocess.run(command, input=f"{NEW}\n10.0.0.1/8\n80\n", capture_output=True, text=True, check=False)
    assert bad.returncode == 1 and "has bits set behind the prefix" in bad.stderr and '"line": 3' in bad.stderr
    assert fixed.set("list", "feed") == f"{NEW}\n203.0.113.64/26\n"


def test_what_changes_nothing_or_is_refused_applies_nothing(fixed: Live) -> None:
    before, status = fixed.host.attached(), fixed.host.json("status")
    assert fixed.set("add", "feed", FEED, "203.0.113.64/26") == "feed: nothing to change (2 members already)\n"
    assert fixed.set("del", "feed", NEW).startswith("feed: nothing to change\n")
    (fixed.host.directory / "same.txt").write_text("203.0.113.64/27\n203.0.113.96/27\n2001:db8:bad::/48\n")
    assert fixed.set("replace", "feed", "--file", fixed.host.directory / "same.txt").startswith("feed: nothing to change")
    said = fixed.set("add", "feed", "198.51.100.0/28", status=1)  # `protect` is proved again
    assert "error[N" in said and "p.netc:6" in said and "as feed" in said and "feed was not changed" in said
    said = fixed.set("add", "feed", "10.0.0.1/8", "nobody.example", status=1)
    assert "10.0.0.0/8" in said and "not looked up in DNS" in said and "nothing was changed" in said
    assert "no member is named" in fixed.set("add", "feed", status=1)
    assert "--timeout is for dynamic sets" in fixed.set("add", "feed", NEW, "--timeout", "1d", status=1)
    assert "feed.txt:2:1" in fixed.set("replace", "web", "--file", fixed.host.directory / "feed.txt", status=1)
    after = fixed.host.json("status")
    assert fixed.host.attached() == before and (after["generation"], after["bundle"]) == (status["generation"], status["bundle"])


def test_changes_stay_over_each_other_and_end_with_the_next_apply_of_the_file(fixed: Live) -> None:
    fixed.set("add", "office", "192.0.2.128/25")
    fixed.set("add", "both", "192.0.2.1")
    fixed.set("del", "feed", "2001:db8:bad::/48")
    assert met(fixed, (NEW, 53), ("192.0.2.1", 53)) == {"both": 2}
    rows = {row["set"]: row["by_hand"] for row in fixed.host.json("set", "list")}
    assert rows == {"office": True, "web": False, "feed": True, "both": True}
    planned = fixed.host.netc("plan", fixed.host.directory / "p.netc", status=2).stdout
    assert "~ office  loses 192.0.2.128/25 (`netc set` changed what is installed)" in planned and "~ feed    gains 2001:db8:bad::/48" in planned
    fixed.host.netc("rollback")
    assert "2001:db8:bad::/48" in fixed.set("list", "feed")
    fixed.apply(POLICY)
    assert met(fixed, (NEW, 53)) == {"default": 1} and not any(row["by_hand"] for row in fixed.host.json("set", "list"))


def test_a_bundle_of_an_earlier_netc_is_refused_with_the_mend(fixed: Live) -> None:
    old = replace(fixed.bundle, sources=(), profile="")
    fixed.host.netc("apply", fixed.host.write(bundles.encode(old)))
    assert "apply the policy again" in fixed.set("add", "feed", NEW, status=1)
    assert fixed.set("list", "feed") == "2001:db8:bad::/48\n203.0.113.64/26\n"


def test_two_changes_at_once_are_both_there_afterwards(fixed: Live) -> None:
    commands = [fixed.host.command("set", "add", "feed", f"192.0.2.{n}") for n in (1, 5)]
    running = [subprocess.Popen(each, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for each in commands]
    assert [(each.communicate(), each.returncode)[1] for each in running] == [0, 0]
    assert fixed.set("list", "feed").splitlines()[1:3] == ["192.0.2.1", "192.0.2.5"]
