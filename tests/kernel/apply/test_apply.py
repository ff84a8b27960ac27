"""The life of a policy on a device: plan, apply, count, verify, apply again, another one, roll back, remove."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from compiler import ir
from tests.kernel.apply.hosts import DNS, ESTABLISHED, SSH, Host, made, program, tcp, udp
from tests.pure.runtime.bundles import expect

WEB = ir.Rule("web", "pass", ir.And((ir.Is("tcp"), ir.Within(ir.Field.DPORT, ((443, 443),)))), text="pass tcp dport 443")


def test_the_whole_life_of_a_policy(host: Host) -> None:
    before = host.attached()
    first = host.write(made(program(DNS, SSH, ESTABLISHED, shape=True), "first.netc"), "first.bundle")
    planned = host.json("plan", first, status=2)
    assert planned["changes"] and {"xdp", "nft", "tc"} <= {step["backend"] for step in planned["steps"]}
    assert host.attached() == before, "a plan changes nothing"

    applied = host.json("apply", first)
    assert applied["changed"] and applied["generation"] == 1 and applied["left"] == []
    host.send(udp(53), 3)
    host.send(tcp(22), 4)
    host.send(tcp(23), 5)
    counts = host.counts()
    assert counts["xdp", "wan.in.dns"] == 3 and counts["xdp", "wan.in.ssh"] == 4
    assert counts["xdp", "wan.in.seen"] == 12 and counts["xdp", "wan.in.handed-on"] == 5
    assert counts["conntrack", "wan.in.default"] == 5 and counts["conntrack", "wan.in.carried"] == 4
    assert host.json("verify")["ok"]

    again = host.json("apply", first)
    assert not again["changed"] and again["generation"] == 1
    assert host.netc("apply", first).stdout.startswith("nothing to do: first.netc")
    assert host.json("plan", first)["steps"] == []

    second = host.write(made(program(DNS, WEB, ESTABLISHED, shape=True), "second.netc"), "second.bundle")
    assert host.json("apply", second)["generation"] == 2
    host.send(tcp(443), 2)
    host.send(udp(53), 1)
    counts = host.counts()
    assert counts["xdp", "wan.in.web"] == 2 and counts["xdp", "wan.in.dns"] == 4, "a counter survives an apply"

    back = host.json("rollback")
    assert back["generation"] == 3 and back["installed"]["policy"] == "first.netc"
    host.send(tcp(22), 1)
    assert host.counts()["xdp", "wan.in.ssh"] == 5, "a counter that was away comes back with its numbers"
    assert host.json("verify")["ok"] and host.netc("status").stdout.endswith("as applied\n")

    removed = host.json("remove")
    assert removed["changed"] and removed["installed"] is None and removed["left"] == []
    after = host.attached()
    assert {key: after[key] for key in after if key != "pins"} == {key: before[key] for key in before if key != "pins"}
    assert not [pin for pin in after["pins"] if pin.count("/") > 1]
    assert not host.json("remove")["changed"]
    assert host.json("rollback")["installed"]["policy"] == "first.netc", "the history outlives a removal"


def test_status_and_verify_see_what_others_changed(host: Host) -> None:
    host.netc("apply", host.write(made(program(DNS, SSH, ESTABLISHED, shape=True))))
    host.run("nft", "flush", "table", "inet", "netc")
    host.run("tc", "qdisc", "del", "dev", "wan0", "root")
    (host.directory / "bpf" / "links").joinpath(next(p.name for p in (host.directory / "bpf/links").iterdir() if "xdp" in p.name)).unlink()
    drift = {item["where"] for item in host.json("status", status=1)["drift"]}
    assert drift == {"nft", "tc", "xdp"}
    assert not host.json("verify", status=1)["ok"]
    assert host.json("apply", host.directory / "p.bundle")["changed"]
    assert host.json("verify")["ok"]


def test_a_refused_step_takes_everything_back(host: Host) -> None:
    """Native XDP on veth needs a receive queue for each transmit queue of the peer: with one, the flip fails behind the tc program's."""
    before = host.attached()
    host.run("ethtool", "-L", "wan0", "rx", "1", "tx", "1")
    refused = host.netc("apply", host.write(made(program(DNS, ESTABLISHED, shape=True))), status=1)
    assert "No space left on device" in refused.stderr and "set channels" in refused.stderr and "steps were taken back" in refused.stderr
    assert host.attached() == before, "no empty directory of pins either"
    assert "nothing is installed" in host.netc("status", status=1).stderr
    host.run("ethtool", "-L", "wan0", "rx", "4", "tx", "4")
    assert host.json("apply", host.directory / "p.bundle")["generation"] == 1


def test_a_foreign_qdisc_stays(host: Host) -> None:
    host.netc("apply", host.write(made(program(DNS)), "plain.bundle"))
    before = host.attached()
    host.run("tc", "qdisc", "replace", "dev", "wan0", "root", "handle", "77:", "tbf", "rate", "1gbit", "burst", "1mb", "latency", "1s")
    refused = host.netc("apply", host.write(made(program(DNS, shape=True)), "shaped.bundle"), status=1)
    assert "error:" in refused.stderr and "tbf" in refused.stderr and "help:" in refused.stderr
    host.run("tc", "qdisc", "del", "dev", "wan0", "root")
    assert host.attached() == before
    assert host.json("status")["policy"] == "p.netc"


def test_foreign_objects_are_refused_by_name(host: Host) -> None:
    host.run("nft", "add", "table", "inet", "netc")
    before = host.attached()
    refused = host.netc("apply", host.write(made(program(DNS, ESTABLISHED))), status=1)
    assert "netc did not make it" in refused.stderr and host.attached() == before


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--nic", "wan=nodevice0"], "there is no device nodevice0"), (["--nic", "lan=wan0"], "the policy has no nic lan"),
        (["--nic", "wan"], "--nic wan=ens1f0np0"), (["--nic", "wan=../../x"], "--nic wan=ens1f0np0"), (["--lab", "no-such-lab"], "netc lab up"),
    ],
)  # fmt: skip
def test_a_wrong_binding_is_told_with_the_mend(host: Host, arguments: list[str], words: str) -> None:
    usage = 2 if words == "--nic wan=ens1f0np0" else 1
    refused = host.netc("apply", host.write(made(program(DNS))), *arguments, status=usage)
    assert words in refused.stderr and host.attached()["xdp"] is None


def test_a_nic_does_not_move_in_one_step(host: Host) -> None:
    bundle = host.write(made(program(DNS)))
    host.netc("apply", bundle)
    assert "netc remove" in host.netc("apply", bundle, "--nic", "wan=lo", status=1).stderr


def test_a_broken_expectation_rolls_back_when_asked(host: Host) -> None:
    good = host.write(made(program(DNS), "good.netc"), "good.bundle")
    host.netc("apply", good)
    wanting = replace_window(made(program(DNS, SSH), "bad.netc", expects=(expect("wan.in.ssh", ">", 0),)))
    shown = host.netc("apply", "--verify", host.write(wanting, "bad.bundle"), status=1)
    assert "broken" in shown.stdout and "wan.in.ssh packets is 0, wanted > 0" in shown.stdout and "rolling back" in shown.stderr
    assert host.json("status")["policy"] == "good.netc"


def replace_window(data: bytes) -> bytes:
    """The same bundle with windows of 0.1 s."""
    import msgspec

    from compiler import bundle as bundles

    whole = bundles.decode(data)
    short = tuple(msgspec.structs.replace(e, window=10**8) for e in whole.expects)
    return bundles.encode(msgspec.structs.replace(whole, expects=short))


def test_counters_for_people_and_for_prometheus(host: Host) -> None:
    host.netc("apply", host.write(made(program(DNS, SSH))))
    host.send(udp(53), 3)
    table = host.netc("counters").stdout
    assert any(line.split()[:4] == ["wan.in.dns", "xdp", "drop", "3"] for line in table.splitlines())
    assert "seen 3 = counted 3  balanced" in table
    text = host.netc("counters", "--openmetrics").stdout
    assert 'netc_packets_total{name="wan.in.dns",stage="xdp",kind="rule",verdict="drop"} 3\n' in text and text.endswith("# EOF\n")


def test_applying_imports_neither_lark_nor_bcc(host: Host) -> None:
    bundle = host.write(made(program(DNS, SSH, ESTABLISHED, shape=True)))
    script = "import sys; from runtime.cli import main; s = main(sys.argv[1:]); print('@', s, *sorted(sys.modules))"
    command = host.command("apply", bundle)
    at = command.index("-m")
    done = subprocess.run([*command[:at], "-c", script, *command[at + 2 :]], capture_output=True, text=True, check=True, cwd=Path(__file__).parents[3])
    status, *loaded = done.stdout.rpartition("@")[2].split()
    assert status == "0" and "runtime.steps.xdp" in loaded
    assert not {"lark", "bcc", "scapy", "numpy"} & {name.split(".")[0] for name in loaded}
    tables = {"compiler.tables", *(f"compiler.tables.{name}" for name in ("calls", "changes", "drivers", "framing", "members", "offloads"))}
    known = {"compiler", "compiler.bundle"} | tables
    assert {name for name in loaded if name.split(".")[0] == "compiler"} <= known


def test_nothing_is_installed(host: Host) -> None:
    for command in ("status", "counters", "verify"):
        assert "netc apply POLICY" in host.netc(command, status=1).stderr
    assert "nothing to roll back to" in host.netc("rollback", status=1).stderr
    assert not host.json("remove")["changed"]
