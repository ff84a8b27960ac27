"""What of others may stay is named: their tcx programs and tc filters, their nft tables, and irqbalance beside pinned interrupts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime import irqbalance
from runtime.backends import bpf, link
from runtime.context import Context, Device
from runtime.knobs import affinity
from runtime.lab import netns
from tests.kernel.apply.hosts import DNS, ESTABLISHED, Host, made, program
from tests.kernel.foreign.conftest import loaded, tc

NFT = """
table ip nat {
    chain DOCKER {
    }
    chain PREROUTING {
        type nat hook prerouting priority -100; policy accept;
    }
}
table inet firewalld {
    chain filter_INPUT {
        type filter hook input priority 10; policy drop;
    }
}
"""
FLOWS = "table inet mine { flowtable fast { hook ingress priority 0; devices = { wan0 }; }; }"


def test_tables_of_others(host: Host) -> None:
    subprocess.run(["nsenter", f"--net=/run/netns/{host.netns}", "nft", "-f", "-"], input=NFT, text=True, check=True)
    flows = subprocess.run(["nsenter", f"--net=/run/netns/{host.netns}", "nft", "-f", "-"], input=FLOWS, text=True, capture_output=True, check=False)
    bundle = host.write(made(program(DNS, ESTABLISHED)))
    before = host.run("nft", "list", "ruleset")
    told = host.netc("plan", bundle, status=2).stderr
    assert "inet firewalld: firewalld's; also judges: input +10 policy drop" in told, told
    assert "ip nat: docker's; also judges: prerouting -100 policy accept" in told, told
    assert flows.returncode or "warning: inet mine: has flow tables (fast)" in told, told  # a kernel may lack them
    warned = host.netc("apply", bundle, "--take-over").stderr
    assert (flows.returncode or "flow tables" in warned) and "docker" not in warned
    status = host.json("status")
    assert [item["where"] for item in status["foreign"]] == ["inet firewalld", *([] if flows.returncode else ["inet mine"]), "ip nat"] and status["kept"] == []
    assert "beside      inet firewalld" in host.netc("status").stdout
    host.netc("remove")
    assert host.run("nft", "list", "ruleset") == before


@pytest.mark.needs("take-over")
def test_programs_and_filters_of_others(host: Host) -> None:
    bundle = host.write(made(program(DNS, ESTABLISHED, shape=True)))
    with netns.enter(host.netns):
        theirs = loaded(0, "early", "sched_cls", bpf.TCX_EGRESS)
        held = bpf.link_create(theirs, link.get("wan0").ifindex, bpf.TCX_EGRESS)
    try:
        host.netc("apply", bundle)
        tc(host, "qdisc add dev wan0 clsact", "filter add dev wan0 ingress prio 9 u32 match u32 0 0 flowid 1:1")
        found = {item["kind"]: item["words"] for item in host.json("status", status=1)["foreign"]}
        assert f"tcx_egress also runs program {bpf.prog_info(theirs).id} (early), loaded by root on 20" in found["tcx"], found
        assert "before netc's" in found["tcx"] and "ingress has tc filters of somebody else's (u32 prio 9)" in found["clsact"], found
        news = [item for item in host.json("verify", status=1)["findings"] if item["result"] == "broken"]
        assert [item["where"] for item in news] == ["foreign"] and "u32 prio 9" in news[0]["detail"] and "came after the policy" in news[0]["detail"], news
        assert host.json("apply", bundle)["changed"] and host.json("verify")["ok"]  # accepted; the other was there from the first apply on
        host.netc("remove")
        with netns.enter(host.netns):
            assert bpf.link_info(held).ifindex
    finally:
        os.close(held)
        os.close(theirs)


def test_irqbalance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A real process of that name; only the device's interrupts are made up: a veth has none."""
    from compiler import bundle as bundles

    monkeypatch.setattr(affinity, "device_irqs", lambda _device: [41, 42])
    setting = bundles.Setting("wan", "irq", "cpus", (0, 1), False, "p.netc", 3, "irq cpus 0 1")
    bundle = bundles.decode(made(program(DNS), settings=(setting,)))
    context = Context(tmp_path, tmp_path, (Device("wan", "wan0", 2),))
    idle = "import sys, time; open('/proc/self/comm', 'w').write('irqbalance'); print(flush=True); time.sleep(60)"
    for bans, expected in (([], "--banirq=41 --banirq=42"), (["--banirq=41"], '"--banirq=42"'), (["--banirq=41", "-i", "42"], "")):
        with subprocess.Popen([sys.executable, "-c", idle, *bans], stdout=subprocess.PIPE) as process:
            assert process.stdout is not None and process.stdout.readline()
            try:
                said = [words for _, words in irqbalance.conflicts(context, bundle) if f"process {process.pid})" in words]
            finally:
                process.kill()
        assert bool(said) == bool(expected) and all(expected in words and "/etc/default/irqbalance" in words for words in said), said
    assert irqbalance.conflicts(context, bundles.decode(made(program(DNS)))) == []
