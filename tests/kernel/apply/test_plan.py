"""`netc plan` against the host as it is: the policy's words, drift first, settings as they are now; saved plans, and what makes them too old."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from compiler import ir
from tests.kernel.apply.hosts import DNS, ESTABLISHED, ROOT, SSH, Host, made, program

WEB = ir.Rule("web", "pass", ir.And((ir.Is("tcp"), ir.Within(ir.Field.DPORT, ((443, 443),)))), text="pass tcp dport 443")
TSO_OFF = (ir.Setting("wan", "feature", "tso", "off", text="offload tso off"),)


def bundles(host: Host) -> tuple[Path, Path]:
    first = host.write(made(program(DNS, SSH, ESTABLISHED, shape=True), "first.netc"), "first.bundle")
    return first, host.write(made(program(DNS, WEB, ESTABLISHED, shape=True, settings=TSO_OFF), "second.netc"), "second.bundle")


def entries(plan: dict[str, object]) -> set[tuple[str, str, str]]:
    return {(e["backend"], e["sign"], e["name"]) for e in plan["entries"] if e["kind"] != "program"}  # type: ignore[attr-defined]


def test_a_plan_says_what_changes_on_this_host(host: Host) -> None:
    first, second = bundles(host)
    new = host.json("plan", first, status=2)
    assert {("xdp", "+", "wan.in.dns"), ("nft", "+", "wan.in.est"), ("tc", "+", "wan.shape.out.voice")} <= entries(new)
    assert [item["needs_allow_disruptive"] for item in new["disruptive"]] == [False], "putting a shape on is told; veth asks for nothing"
    host.netc("apply", first)
    plan = host.json("plan", second, status=2)
    assert entries(plan) == {("xdp", "+", "wan.in.web"), ("xdp", "-", "wan.in.ssh"), ("settings", "+", "wan0 feature tso")} | {
        e for e in entries(plan) if e[2].startswith("table ")}  # fmt: skip
    (setting,) = [e for e in plan["entries"] if e["kind"] == "setting"]
    assert "tx-tcp-segmentation" in setting["was"] and setting["text"] == "none"
    assert plan["summary"] == {"add": 2, "change": 0, "remove": 1, "drifted": 0}
    assert {item["backend"] for item in plan["windows"]} == {"settings", "xdp", "nft", "tc"} and plan["disruptive"] == []
    text = host.netc("plan", second, status=2).stdout
    assert "+ wan.in.web" in text and "pass tcp dport 443" in text and "Plan: 2 to add, 0 to change, 1 to remove" in text
    assert host.json("plan", first)["summary"] == {"add": 0, "change": 0, "remove": 0, "drifted": 0}


def test_drift_comes_first_also_when_the_bundle_is_the_same(host: Host) -> None:
    first, _ = bundles(host)
    host.netc("apply", first)
    host.run("tc", "class", "change", "dev", "wan0", "classid", "1:1", "parent", "1:", "htb", "rate", "5mbit")
    host.run("nft", "flush", "table", "inet", "netc")
    plan = host.json("plan", first, status=2)
    assert {item["where"] for item in plan["drift"]} == {"tc", "nft"} and plan["entries"] == [] and plan["steps"]
    assert plan["drift"] == host.json("status", status=1)["drift"], "one place for drift"
    text = host.netc("plan", first, status=2).stdout
    assert text.startswith("changed outside netc since number 1 (first.netc, ") and "rate 5000000 instead of 10000000" in text
    assert "; 2 drifted" in text
    host.netc("apply", first)
    assert host.json("plan", first)["drift"] == []



def test_a_saved_plan_is_applied_as_it_is(host: Host) -> None:
    first, second = bundles(host)
    plan = host.directory / "edge.plan"
    host.netc("plan", first, "-o", plan, status=2)
    assert host.json("plan", plan, status=2)["changes"]
    applied = host.json("apply", plan)
    assert applied["changed"] and applied["installed"]["policy"] == "first.netc" and host.json("verify")["ok"]
    refused = host.netc("apply", plan, status=1).stderr
    assert "number 0 was the last change then; netc apply of first.netc (number 1) came since" in refused and "nothing was changed" in refused
    host.netc("plan", second, "-o", plan, status=2)
    assert host.json("apply", plan)["installed"]["policy"] == "second.netc"
    told = host.netc("apply", plan, "--nic", "wan=wan0", status=2).stderr
    assert "is a saved plan" in told


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nft", "flush", "table", "inet", "netc"), "changed outside netc: nft: "),
        (("tc", "class", "change", "dev", "wan0", "classid", "1:1", "parent", "1:", "htb", "rate", "5mbit"), "rate 5000000 instead of 10000000"),
        (("ethtool", "-K", "wan0", "tso", "off"), "wan0 feature tso is gone"),
        (("ip", "link", "set", "wan0", "address", "02:00:00:00:00:01"), "wan0 is another device: then "),
        (("ip", "link", "set", "wan0", "name", "wan9"), "there is no device wan0"),
        (("nft", "add", "rule", "inet", "netc", "netc-made-this-table", "accept"), "nft table inet netc was changed"),
    ],
)
def test_a_saved_plan_is_refused_when_the_host_moved_on(host: Host, words: tuple[str, ...], told: str) -> None:
    first, second = bundles(host)
    plan = host.directory / "edge.plan"
    host.netc("apply", first)
    host.netc("plan", second, "-o", plan, status=2)
    if words[0] == "ip":
        host.run("ip", "link", "set", "wan0", "down")
    host.run(*words)
    before = host.attached() if "wan9" not in words else None
    refused = host.netc("apply", plan, status=1).stderr
    assert "the host has moved on since this plan was made; nothing was changed" in refused and told in refused, refused
    assert "netc plan POLICY -o FILE" in refused
    if before is not None:
        assert host.attached() == before
    assert json.loads((host.directory / "state/state.json").read_text())["generation"] == 1


def test_packets_and_members_do_not_move_a_host(host: Host) -> None:
    from tests.kernel.apply.hosts import tcp, udp

    first, second = bundles(host)
    plan = host.directory / "edge.plan"
    host.netc("apply", first)
    host.netc("plan", second, "-o", plan, status=2)
    host.send(udp(53), 30)
    host.send(tcp(22), 30)
    host.run("nft", "add", "table", "inet", "others")
    assert host.json("apply", plan)["changed"]


def test_damaged_plans_are_refused_before_anything_is_done(host: Host) -> None:
    first, _ = bundles(host)
    plan = host.directory / "edge.plan"
    host.netc("plan", first, "-o", plan, status=2)
    whole, before = plan.read_bytes(), host.attached()
    for data in (whole[:-1], whole[:200], whole[:12], whole + b"x", whole.replace(b"netc-plan 1", b"netc-plan 9", 1), whole.replace(b"wan0", b"wan1", 1)):
        plan.write_bytes(data)
        refused = host.netc("apply", plan, status=1).stderr
        assert str(plan) in refused and "netc plan" in refused, refused
    assert host.attached() == before


def test_a_driver_that_may_reset_is_asked_for(host: Host) -> None:
    """A tap device has native XDP, and netc knows nothing of what its driver does when that goes on."""
    host.run("ip", "link", "del", "wan0")
    host.run("ip", "tuntap", "add", "dev", "wan0", "mode", "tap")
    host.run("ip", "link", "set", "wan0", "up")
    bundle = host.write(made(program(DNS, SSH)))
    (item,) = host.json("plan", bundle, status=2)["disruptive"]
    assert item["driver"] == "tun" and item["needs_allow_disruptive"]
    assert "apply needs --allow-disruptive" in host.netc("plan", bundle, status=2).stdout
    before = host.attached()
    refused = host.netc("apply", bundle, status=1).stderr
    assert "attach wan.xdp on wan0 (xdp native): tun: " in refused and "--allow-disruptive" in refused and "nothing was changed" in refused
    assert {k: v for k, v in host.attached().items() if k != "pins"} == {k: v for k, v in before.items() if k != "pins"}
    assert host.json("apply", bundle, "--allow-disruptive")["changed"]
    other = host.write(made(program(DNS, WEB), "other.netc"), "other.bundle")
    assert host.json("apply", other)["changed"], "an update of a link resets nothing"
    assert "--allow-disruptive" in host.netc("remove", status=1).stderr
    assert host.json("remove", "--allow-disruptive")["changed"]
    assert "--allow-disruptive" in host.netc("rollback", status=1).stderr
    assert host.json("rollback", "--allow-disruptive")["installed"]["policy"] == "other.netc"


def test_a_plan_of_a_policy_file_is_whole_when_it_is_saved(host: Host) -> None:
    """Compiled by the child as ever; the bundle in the plan is what is applied, whatever the file says afterwards."""
    policy, plan = host.directory / "p.netc", host.directory / "p.plan"
    policy.write_text("nic wan { device wan0; xdp native }\nfilter wan in { pass tcp dport 22 as ssh\n default drop }\n")
    host.netc("plan", policy, "-o", plan, status=2)
    policy.write_text("nic wan { device wan0; xdp native }\nfilter wan in { default pass }\n")
    host.netc("apply", plan)
    assert ("xdp", "wan.in.ssh") in host.counts()
    done = subprocess.run(host.command("plan", policy, "--long"), capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 2 and "- wan.in.ssh" in done.stdout and "~ wan.in.default  default drop → default pass" in done.stdout and "\nsteps\n" in done.stdout
