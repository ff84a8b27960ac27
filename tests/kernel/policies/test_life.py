"""Every policy of policies/ on a lab of its own: counted exactly, applied again, rolled back, moved, removed."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from runtime.lab import packets
from tests.kernel.policies.bench import ROOT, Bench, State, send

POLICIES = sorted((ROOT / "policies").glob("*.netc"))
PLAIN = "nic wan { device wan0; xdp native }\nfilter wan in { drop tcp dport 9 as discard; default pass }\n"


@pytest.fixture(params=POLICIES, ids=lambda path: path.stem)
def policy(request: pytest.FixtureRequest) -> Path:
    chosen: Path = request.param
    return chosen


def test_every_policy_comes_with_tests_and_traffic() -> None:
    assert len(POLICIES) >= 5
    for path in POLICIES:
        assert 'test "' in path.read_text() and packets.read(path.with_suffix(".packets"))


def test_what_is_sent_is_what_each_rule_counts(bench: Bench, policy: Path) -> None:
    """Line by line: the counters that the line names account for every packet, and no other rule moves."""
    bench.netc("apply", policy)
    lines = packets.read(policy.with_suffix(".packets"))
    probed = bench.counted()
    assert {name for name, count in probed.items() if count} <= {"wan.in.ssh"}, "nothing but the probes of what is protected"
    moved = send(bench, lines)
    lists = {counter.rpartition(".")[0] for counter in moved}
    now = {name: count - probed.get(name, 0) for name, count in bench.counted().items()}
    assert {name: count for name, count in now.items() if count and name.rpartition(".")[0] in lists} == moved
    assert sum(moved.values()) == sum(line.count for line in lines)
    assert bench.verify()["ok"], "every expectation held: the traffic is what they are about"
    again = bench.counted()
    assert not bench.json("apply", policy)["changed"]
    assert bench.counted() == again, "an apply keeps the counters"


def test_applied_again_it_changes_nothing_and_removed_it_is_as_if_it_had_never_been(bench: Bench, policy: Path) -> None:
    before = bench.state()
    assert before["pins"] == []
    bench.netc("apply", policy)
    applied = bench.state()
    assert applied != before
    again = bench.netc("apply", policy)
    assert again.stdout.startswith(f"nothing to do: {policy.name}") and "installed and unchanged" in again.stdout
    assert bench.json("plan", policy)["steps"] == []
    assert bench.state() == applied
    removed = bench.json("remove")
    assert removed["changed"] and removed["left"] == []
    assert bench.state() == before
    assert not bench.json("remove")["changed"]


def test_rolled_back_to_the_policy_before(bench: Bench, policy: Path, tmp_path: Path) -> None:
    """What the kernel has after the way back is what it had before, but for the number of the generation in the names."""
    plain = tmp_path / "plain.netc"
    plain.write_text(PLAIN)
    start = bench.state()
    bench.netc("apply", plain)
    first = bench.state()
    bench.netc("apply", policy)
    back = bench.json("rollback")
    assert back["changed"] and back["installed"]["policy"] == "plain.netc" and back["left"] == []
    again = bench.state()
    for key in first:
        if key not in ("pins", "links"):
            assert _unnumbered(again[key]) == _unnumbered(first[key]), key
    assert [_unattached(dev) for dev in again["links"]] == [_unattached(dev) for dev in first["links"]]
    assert _unnumbered(again["pins"]) == _unnumbered(first["pins"])
    bench.verify()
    forward = bench.json("rollback")
    assert forward["installed"]["policy"] == policy.name
    bench.verify()
    bench.netc("remove")
    assert bench.state() == start


def test_moved_to_another_device(bench: Bench) -> None:
    """In one step it is refused by name; removed and applied anew it leaves nothing on the old device."""
    policy = ROOT / "policies/edge.netc"
    before = bench.state()
    bench.netc("apply", policy)
    on_wan = bench.state()
    refused = bench.netc("apply", policy, "--nic", "wan=lan0", code=1)
    assert "is installed on wan0 and would move to lan0" in refused.stderr and "netc remove" in refused.stderr
    assert bench.state() == on_wan
    bench.netc("remove")
    bench.netc("apply", policy, "--nic", "wan=lan0")
    on_lan = bench.state()
    assert [dev for dev in on_lan["links"] if dev["ifname"] == "wan0"] == [dev for dev in before["links"] if dev["ifname"] == "wan0"]
    for key in ("qdiscs", "ethtool", "queues"):
        assert _of(on_lan[key], "wan0") == _of(before[key], "wan0")
    lines = packets.read(policy.with_suffix(".packets"))
    bogon = lines[0]
    assert send(bench, [packets.Line("lan", bogon.count, bogon.packet, bogon.counters, bogon.number)]) == {"wan.in.bogon": bogon.count}
    bench.netc("remove")
    assert bench.state() == before


def _unnumbered(state: object) -> object:
    """Without the generation's number, which goes on counting."""
    return json.loads(re.sub(r"(_g|gen-)\d+", r"\1N", json.dumps(state)))


def _unattached(link: State) -> State:
    """A link without the program on it: that has another id."""
    return {key: value for key, value in link.items() if key != "xdp"}


def _of(state: object, device: str) -> object:
    if isinstance(state, dict):
        return {key: value for key, value in state.items() if device in key}
    assert isinstance(state, list)
    return [item for item in state if item["dev"] == device]
