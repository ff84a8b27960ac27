"""Every policy of policies/ on a lab of its own: counted exactly, applied again, rolled back, moved, removed."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.lab import packets
from tests.kernel.policies.bench import ROOT, Bench, judged, send

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
    counted = send(bench, lines)
    assert sum(counted.values()) == sum(line.count for line in lines)
    for line in lines:  # the counters that one line alone names: the very number
        others = [other for other in lines if other is not line and set(other.counters) & set(line.counters)]
        if len(line.counters) == 1 and not others:
            assert counted[line.counters[0]] == line.count, line
    verified = bench.json("verify")
    assert verified["ok"], verified
    assert {"installed", "balance"} <= {item["check"] for item in verified["findings"]}


def test_the_same_again_changes_nothing_and_says_so(bench: Bench, policy: Path, tmp_path: Path) -> None:
    bundle = tmp_path / "p.bundle"
    bench.netc("apply", policy)
    before = bench.state()
    again = bench.netc("apply", policy)
    assert again.stdout.startswith(f"nothing to do: {policy.name}") and "installed and unchanged" in again.stdout
    done = compile_to(policy, bundle)
    assert done == compile_to(policy, tmp_path / "q.bundle"), "equal input, equal bytes"
    assert not bench.json("apply", policy)["changed"]
    assert bench.json("plan", policy)["steps"] == []
    assert bench.state() == before


def test_removed_as_if_it_had_never_been(bench: Bench, policy: Path) -> None:
    before = bench.state()
    assert before["pins"] == []
    bench.netc("apply", policy)
    assert bench.state() != before
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
            assert again[key] == first[key], key
    assert len(again["links"]) == len(first["links"])
    assert bench.json("verify")["ok"]
    forward = bench.json("rollback")
    assert forward["installed"]["policy"] == policy.name
    assert bench.json("verify", "--window", code=1 if b"> 0" in policy.read_bytes() else 0) is not None
    bench.netc("remove")
    assert bench.state() == start


def compile_to(policy: Path, bundle: Path) -> bytes:
    from runtime import cli

    assert cli.main(["compile", str(policy), "-o", str(bundle)]) == 0
    return bundle.read_bytes()


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
    send(bench, [packets.Line("lan", bogon.count, bogon.packet, bogon.counters, bogon.number)])
    assert judged(bench.readings())["wan.in.bogon"] == bogon.count
    bench.netc("remove")
    assert bench.state() == before


def _of(state: object, device: str) -> object:
    if isinstance(state, dict):
        return {key: value for key, value in state.items() if device in key}
    assert isinstance(state, list)
    return [item for item in state if item["dev"] == device]
