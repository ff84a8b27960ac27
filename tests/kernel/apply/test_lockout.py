"""An apply over ssh cannot cut the connection that it is made over: refused with the rule, or taken back by the probe behind the flip."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel import reduced
from tests.kernel.apply.hosts import ROOT, Host, tcp
from tests.pure.space import test_lockout_policies as lockout_policies

CLIENT, HERE = "192.0.2.7", "192.0.2.1"
OVER_SSH = {"SSH_CONNECTION": f"{CLIENT} 50123 {HERE} 22"}
HEAD = "nic wan { device wan0; xdp native }\n"
pytestmark = pytest.mark.needs("compiler")  # the proof is the compiler's, for bundles too


@pytest.fixture
def server(host: Host, monkeypatch: pytest.MonkeyPatch) -> Host:
    """A host with an address, and the environment of a login over ssh."""
    host.run("ip", "address", "add", f"{HERE}/24", "dev", "wan0")
    monkeypatch.setenv("SSH_CONNECTION", OVER_SSH["SSH_CONNECTION"])
    return host


def policy(host: Host, *rules: str, head: str = HEAD, default: str = "drop", name: str = "edge.netc") -> Path:
    path = host.directory / name
    path.write_text(head + "filter wan in {\n" + "".join(f"  {rule}\n" for rule in rules) + f"  default {default}\n}}\n")
    return path


def compiled(host: Host, path: Path) -> Path:
    bundle = path.with_suffix(".bundle")
    subprocess.run([sys.executable, "-m", "runtime.cli", "compile", path, "-o", bundle], cwd=ROOT, check=True)
    return bundle


GOOD = ("pass tcp dport 22 as ssh",)
CUTS = (("drop src 192.0.2.0/28", "pass tcp dport 22"), ("pass tcp dport 22 src 192.0.2.8",), ("pass tcp dport 22 limit 10pps",))


@pytest.mark.parametrize("rules", CUTS, ids=["a rule", "the default", "a limit"])
@pytest.mark.parametrize("command", ["plan", "apply"])
@pytest.mark.parametrize("kind", ["policy", "bundle"])
def test_what_could_cut_the_connection_is_refused_with_the_rule(server: Host, rules: tuple[str, ...], command: str, kind: str) -> None:
    path = policy(server, *rules)
    before = server.attached()
    refused = server.netc(command, path if kind == "policy" else compiled(server, path), status=1).stderr
    line = 3 if rules[0].startswith("drop") else 2
    assert f"edge.netc:{line}:" in refused and "the connection that this command is run over" in refused
    assert f"`protect wan {{ tcp dport 22 src {CLIENT} dst {HERE} }}`" in refused and "--allow-lockout" in refused
    assert server.attached() == before


def test_allowed_when_it_is_asked_for(server: Host) -> None:
    path = policy(server, *CUTS[0])
    assert server.json("apply", path, "--allow-lockout")["changed"]
    assert not server.json("apply", compiled(server, path))["changed"], "what is in force already is no change"


def test_what_leaves_it_alone_is_applied_and_probed(server: Host) -> None:
    applied = server.json("apply", policy(server, *GOOD))
    assert applied["steps"].count("probe what is protected") == 1
    assert server.counts()["xdp", "wan.in.ssh"] == 1, "the probe was judged by the new program"
    assert "netc-probe" not in server.run("nft", "list", "tables")


def test_a_rollback_is_proved_too(server: Host) -> None:
    server.netc("apply", policy(server, *CUTS[0]), "--allow-lockout")
    server.netc("apply", policy(server, *GOOD))
    assert "edge.netc:3:" in server.netc("rollback", status=1).stderr
    assert server.json("rollback", "--allow-lockout")["changed"]


def test_a_set_that_grows_over_the_client_is_refused(server: Host) -> None:
    head = HEAD + "set bad = { 203.0.113.0/24 }\n"
    server.netc("apply", policy(server, "drop src in bad", *GOOD, head=head))
    assert "edge.netc:4:" in server.netc("set", "add", "bad", CLIENT, status=1).stderr
    assert server.netc("set", "add", "bad", "198.51.100.7").stdout
    assert server.netc("set", "add", "bad", CLIENT, "--allow-lockout").stdout


def test_a_session_of_another_namespace_or_device_is_no_matter(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSH_CONNECTION", OVER_SSH["SSH_CONNECTION"])
    assert host.json("apply", policy(host, "drop tcp"))["changed"], "its address is not here"
    host.run("ip", "link", "add", "mgmt0", "type", "ifb")
    host.run("ip", "address", "add", f"{HERE}/24", "dev", "mgmt0")
    host.run("ip", "link", "set", "mgmt0", "up")
    assert host.json("apply", policy(host, "drop tcp dport 23"))["changed"], "it comes in by a device that is not netc's"


@pytest.mark.parametrize("kind", ["bridge", "macvlan"])
def test_the_device_under_the_one_that_is_connected_to_counts(host: Host, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    host.run("ip", "link", "add", "top0", *(["link", "wan0"] if kind == "macvlan" else []), "type", kind)
    if kind == "bridge":
        host.run("ip", "link", "set", "wan0", "master", "top0")
    host.run("ip", "address", "add", f"{HERE}/24", "dev", "top0")
    host.run("ip", "link", "set", "top0", "up")
    monkeypatch.setenv("SSH_CONNECTION", OVER_SSH["SSH_CONNECTION"])
    assert "the connection that this command is run over" in host.netc("apply", policy(host, "drop tcp", *GOOD), status=1).stderr
    assert "warning" not in host.netc("apply", policy(host, *GOOD)).stderr
    assert host.counts()["xdp", "wan.in.ssh"] == 1


def test_a_foreign_table_behind_the_flip_takes_the_apply_back(server: Host) -> None:
    """Inserted when XDP is flipped and before the probe: the probe before met nothing of it."""
    server.netc("apply", policy(server, *GOOD))
    program = server.attached()["xdp"]
    script = """
import sys
from runtime import cli, transaction
import subprocess
real = transaction.run
def run(steps, log, commit, report, **more):
    def told(what, step):
        if what == "do" and step.text == "probe what is protected":
            subprocess.run(["nft", "-f", "-"], input="table inet foreign { chain c { type filter hook input priority 300; tcp dport 22 drop; }; }", text=True, check=True)
        report(what, step)
    return real(steps, log, commit, told, **more)
transaction.run = run
sys.exit(cli.main(sys.argv[1:]))
"""
    arguments = server.command("apply", policy(server, *GOOD, "pass udp dport 53 as dns"))
    at = arguments.index("-m")
    done = subprocess.run([*arguments[:at], "-c", script, *arguments[at + 2 :]], capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 1 and "arrived before the change and does not now" in done.stderr, done.stderr
    assert f"{CLIENT}:" in done.stderr and "steps were taken back" in done.stderr
    assert server.attached()["xdp"] == program and "netc-probe" not in server.run("nft", "list", "tables")
    status = server.json("status", status=1)
    assert status["generation"] == 1 and [item["what"] for item in status["drift"]] == ["inet foreign"], "it came behind the first apply, and is told"


def test_what_never_arrived_is_told_and_no_reason_to_go_back(server: Host) -> None:
    server.run("nft", "add table inet foreign; add chain inet foreign c { type filter hook input priority 0; }; add rule inet foreign c tcp dport 22 drop")
    assert "did not before the change either" in server.netc("apply", policy(server, *GOOD)).stderr


def test_a_rule_change_in_place_is_proved(server: Host) -> None:
    filler = [f"drop udp src 10.{n // 200}.{n % 200}.0/24 dport {1000 + n % 7}-{1100 + n % 7} as f{n}" for n in range(300)]
    server.netc("apply", policy(server, *GOOD, *filler))
    quiet = server.json("apply", policy(server, *GOOD, "drop tcp dport 23 as telnet", *filler))
    assert "in place" in quiet["steps"][0] and len(quiet["steps"]) == 1
    refused = server.netc("apply", policy(server, "drop tcp src 192.0.2.0/24 as cut", *GOOD, *filler), status=1).stderr
    assert "edge.netc:3:" in refused


def test_from_another_address_the_first_change_is_proved_whole(server: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    filler = [f"drop udp src 10.{n // 200}.{n % 200}.0/24 dport {1000 + n % 7}-{1100 + n % 7} as f{n}" for n in range(300)]
    cuts = "drop tcp src 192.0.2.9 as nine"
    server.netc("apply", policy(server, cuts, *GOOD, *filler))
    monkeypatch.setenv("SSH_CONNECTION", f"192.0.2.9 50123 {HERE} 22")
    more = policy(server, cuts, *GOOD, "drop tcp dport 23 as telnet", *filler)
    assert "`drop tcp src 192.0.2.9 as nine`" in server.netc("apply", more, status=1).stderr
    assert server.json("apply", more, "--allow-lockout")["changed"]


def test_a_bundle_without_its_text_is_refused_and_not_skipped(server: Host) -> None:
    import msgspec

    from compiler import bundle as bundles

    path = compiled(server, policy(server, *GOOD))
    bare = msgspec.structs.replace(bundles.decode(path.read_bytes()), sources=())
    refused = server.netc("apply", server.write(bundles.encode(bare)), status=1).stderr
    assert "does not hold its policy's text" in refused and "it is not proved" in refused
    assert server.json("apply", server.directory / "p.bundle", "--allow-lockout")["changed"]


def test_protects_of_the_policy_are_probed(host: Host) -> None:
    host.run("ip", "address", "add", f"{HERE}/24", "dev", "wan0")
    head = HEAD + "set office = { 192.0.2.16/28, 192.0.2.64/28 }\nprotect wan { tcp dport 22 src in office; icmp; udp dport 53 src 192.0.2.99; sctp dport 9 }\n"
    rules = ("pass tcp dport 22 src in office as ssh", "pass icmp as ping", "pass udp dport 53 as dns", "pass sctp dport 9 as sigtran")
    applied = host.netc("apply", policy(host, *rules, head=head))
    assert "warning" not in applied.stderr
    counts = host.counts()
    assert [counts["xdp", f"wan.in.{name}"] for name in ("ssh", "ping", "dns", "sigtran")] == [2, 1, 1, 1]
    assert json.loads(host.run("nft", "-j", "list", "tables"))["nftables"][1:] == []


@pytest.mark.parametrize("mode", ["native", "generic", "none"])
def test_probes_in_every_mode(server: Host, mode: str) -> None:
    head = f"nic wan {{ device wan0; xdp {mode} }}\n"
    done = server.netc("apply", policy(server, "drop udp dport 99", "pass established", *GOOD, head=head))
    assert "warning:" not in done.stderr and "error" not in done.stderr
    ssh = sum(count for (_, name), count in server.counts().items() if name == "wan.in.ssh")
    assert ssh == 1
    server.send(tcp(22, CLIENT), 2)


@pytest.mark.parametrize("number", [number for number in range(200) if lockout_policies.made(number)[0].client.version == 4][:100:16])
def test_policies_that_miss_by_one_let_the_probe_through(host: Host, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Some of the thousand of tests/pure/space/test_lockout_policies.py, on a host that has the flow's address."""
    case, (_, miss) = lockout_policies.made(number)
    host.run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan0p")
    host.run("ip", "address", "add", f"{case.local.network_address}/24", "dev", "wan0")
    host.run("ip", "route", "add", "default", "dev", "wan0")
    if case.over_ssh:
        monkeypatch.setenv("SSH_CONNECTION", f"{case.client.network_address} 50123 {case.local.network_address} {case.port}")
    path = host.directory / "edge.netc"
    path.write_text(miss.text(case))
    applied = host.netc("apply", path, "--nic", "wan=wan0", "--nic", "lan=lan0")
    assert "probe what is protected" in applied.stderr and "arrive" not in applied.stderr, applied.stderr
    assert sum(count for (_, name), count in host.counts().items() if name.startswith("wan.in.") and name.endswith((".wanted", ".x", ".y", ".default"))) >= 1


def test_a_probe_that_is_killed_leaves_nothing_behind(server: Host) -> None:
    """In the probe behind the flip, with its table there: the watchdog takes the apply back, and the table away."""
    server.netc("apply", policy(server, *GOOD))
    program = server.attached()["xdp"]
    script = ("import os, signal, sys\nfrom runtime import cli, probing\nreal, times = probing._inject, []\n"
              "def inject(context, probe):\n    real(context, probe)\n    times.append(1)\n    len(times) == 2 and os.kill(os.getpid(), signal.SIGKILL)\n"
              "probing._inject = inject\nsys.exit(cli.main(sys.argv[1:]))\n")  # fmt: skip
    arguments = server.command("apply", policy(server, *GOOD, "pass udp dport 53 as dns"))
    at = arguments.index("-m")
    assert subprocess.run([*arguments[:at], "-c", script, *arguments[at + 2 :]], cwd=ROOT, capture_output=True, check=False).returncode == -9
    assert "was cut short: took back" in server.ended()
    assert server.attached()["xdp"] == program and "netc-probe" not in server.run("nft", "list", "tables")


@pytest.mark.skipif(reduced.ON, reason="netc is reduced already")
def test_probes_need_no_more_than_netc_itself(server: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """CAP_BPF, CAP_NET_ADMIN, CAP_PERFMON: the program is found by its pin, not by its number. The proof needs more, and says so."""
    head = HEAD + "protect wan { tcp dport 22 }\n"
    monkeypatch.delenv("SSH_CONNECTION")
    server.netc("apply", policy(server, *GOOD, head=head))
    bundle = compiled(server, policy(server, *GOOD, "pass udp dport 53 as dns", head=head))
    few = "+bpf,+net_admin,+perfmon"
    enter = server.command("apply", bundle)
    command = [*enter[:2], "setpriv", "--bounding-set", f"-all,{few}", "--inh-caps", f"-all,{few}", *enter[2:]]
    refused = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **OVER_SSH}, check=False)
    assert refused.returncode == 1 and "it is not proved" in refused.stderr and "CAP_SETUID" in refused.stderr and "--allow-lockout" in refused.stderr
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0 and "warning" not in done.stderr, done.stderr
    assert server.counts()["xdp", "wan.in.ssh"] == 3, "once at the first apply, and before and behind the flip of the second"


MORE = ("steer wan { tcp dport 22 to cpu 0 as s }\n", "shape wan in rate 100mbit { class all { default } }\n", "shape wan out rate 100mbit { class all { default } }\n")


@pytest.mark.parametrize("more", MORE, ids=["to another CPU", "through an ifb", "shaped"])
def test_probes_come_by_every_way(server: Host, more: str) -> None:
    done = server.netc("apply", policy(server, *GOOD, head=HEAD + more))
    assert "arrive" not in done.stderr and "could not" not in done.stderr, done.stderr
    done = server.netc("apply", policy(server, *GOOD, "drop udp dport 53", head=HEAD + more))
    assert "arrive" not in done.stderr and "could not" not in done.stderr, done.stderr
    assert server.counts()["xdp", "wan.in.ssh"] == 3


def test_over_ip6(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0", "net.ipv6.conf.wan0.disable_ipv6=0")
    host.run("ip", "address", "add", "2001:db8::1/64", "dev", "wan0", "nodad")
    monkeypatch.setenv("SSH_CONNECTION", "2001:db8::7 50123 2001:db8::1 22")
    refused = host.netc("apply", policy(host, "drop src 2001:db8::/64", *GOOD), status=1).stderr
    assert "`protect wan { tcp dport 22 src 2001:db8::7 dst 2001:db8::1 }`" in refused
    assert "(nd)" in host.netc("apply", policy(host, "drop nd", *GOOD), status=1).stderr
    head = HEAD + "protect wan { icmp6 echo-request; udp dport 53 src 2001:db8::/64; proto 50 ip6 }\n"
    done = host.netc("apply", policy(host, *GOOD, "pass icmp6 as ping", "pass udp dport 53 as dns", "pass proto 50 as esp", head=head))
    assert "arrive" not in done.stderr and "could not" not in done.stderr, done.stderr
    counts = host.counts()
    assert [counts["xdp", f"wan.in.{name}"] for name in ("ssh", "dns", "esp")] == [1, 1, 1] and counts["xdp", "wan.in.ping"] >= 1


def test_through_a_tunnel_is_told(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.run("ip", "link", "add", "tun9", "type", "vxlan", "id", "3", "dstport", "4789", "dev", "wan0")
    host.run("ip", "address", "add", f"{HERE}/24", "dev", "tun9")
    host.run("ip", "link", "set", "tun9", "up")
    monkeypatch.setenv("SSH_CONNECTION", OVER_SSH["SSH_CONNECTION"])
    assert host.netc("plan", policy(host, "drop tcp dport 23"), status=2).stderr.count("through the tunnel tun9") == 1


def test_a_refused_bundle_is_told_as_json(server: Host) -> None:
    bundle = compiled(server, policy(server, *CUTS[0]))
    line = json.loads(server.netc("apply", bundle, "--json", status=1).stderr.splitlines()[0])
    assert line["code"] == "N601" and line["span"]["line"] == 3


def test_a_trial_is_proved_and_probed_through_the_program_that_ends_it(server: Host) -> None:
    server.netc("apply", policy(server, *GOOD))
    assert "edge.netc:3:" in server.netc("apply", policy(server, *CUTS[0]), "--confirm", "5m", status=1).stderr
    before = server.counts()["xdp", "wan.in.ssh"]
    done = server.netc("apply", policy(server, *GOOD, "drop udp dport 53 as dns"), "--confirm", "5m")
    assert "probe what is protected" in done.stderr and "warning" not in done.stderr
    assert server.json("confirm")["changed"]
    assert server.counts()["xdp", "wan.in.ssh"] == before + 2
