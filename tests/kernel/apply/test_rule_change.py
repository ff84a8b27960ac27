"""Rules that change in place, by the command: one store, exact counters, the same answers as a whole apply; what is more than that is applied whole."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from runtime import changed_rules
from runtime.backends import bpf
from tests.kernel.apply.hosts import ROOT, Host, tcp, udp

pytestmark = pytest.mark.needs("compiler")

HEAD = "# an edge\nset office = { 198.51.100.0/24 }\nset slow : address timeout 10m size 100\nnic wan { device wan0; xdp native }\n"
FILLER = [f"  drop udp src 10.{n // 200}.{n % 200}.0/24 dport {1000 + n % 7}-{1100 + n % 7} as f{n}" for n in range(300)]
IN_PLACE = "in place, by one store"


def write(host: Host, first: Iterable[str] = (), last: Iterable[str] = (), head: str = HEAD, filler: list[str] = FILLER) -> Path:
    lines = ["filter wan in {", *(f"  {text}" for text in first), *filler, *(f"  {text}" for text in last), "  default drop", "}", ""]
    path = host.directory / "edge.netc"
    path.write_text(head + "\n".join(lines))
    return path


def steps(host: Host, path: Path, *options: str) -> list[str]:
    return list(host.json("apply", path, *options)["steps"])


def test_a_rule_comes_and_goes_by_one_store_and_counters_stay(host: Host) -> None:
    path = write(host, ["pass tcp dport 22 as ssh", "drop udp dport 53 as dns"])
    assert "load wan.xdp" in steps(host, path)[0]
    program = host.attached()["xdp"]
    host.send(tcp(22), 2)
    host.send(udp(53), 3)
    write(host, ["pass tcp dport 22 as ssh", "pass udp dport 53 as dns53", "pass udp dport 123 src 203.0.113.0/24 as ntp"])
    plan = host.netc("plan", path, status=2).stdout
    assert "+ wan.in.dns53  pass udp dport 53 as dns53" in plan and "- wan.in.dns    drop udp dport 53 as dns" in plan and IN_PLACE in plan
    assert plan.endswith("Plan: 2 to add, 0 to change, 1 to remove (1 step)\n")
    assert [IN_PLACE in text for text in steps(host, path)] == [True]
    assert host.attached()["xdp"] == program, "the program was made anew"
    host.send(udp(53), 4)
    host.send(udp(123), 5)
    host.send(tcp(22), 1)
    counts = host.counts()
    assert [counts["xdp", f"wan.in.{name}"] for name in ("ssh", "dns53", "ntp", "retired", "seen")] == [3, 4, 5, 3, 15]
    assert ("xdp", "wan.in.dns") not in counts and host.json("verify")["ok"]
    write(host, ["pass tcp dport 22 as ssh", "drop udp dport 53 as dns"])
    assert [IN_PLACE in text for text in steps(host, path)] == [True]
    host.send(udp(53), 1)
    counts = host.counts()
    assert counts["xdp", "wan.in.dns"] == 4 and counts["xdp", "wan.in.retired"] == 9 and host.json("verify")["ok"]
    assert not host.json("apply", path)["changed"]
    assert host.json("plan", path)["changes"] is False


def test_lines_of_counters_follow_the_text(host: Host) -> None:
    path = write(host, ["pass tcp dport 22 as ssh"], ["pass udp dport 53 as dns"])
    steps(host, path)
    write(host, ["# two", "", "pass tcp dport 22 as ssh", "drop tcp dport 23 as telnet"], ["pass udp dport 53 as dns"])
    assert IN_PLACE in steps(host, path)[0]
    lines = path.read_text().split("\n")
    for counter in host.json("counters")["counters"]:
        if counter["kind"] == "rule":
            assert lines[counter["line"] - 1].rpartition(" as ")[2] == counter["name"].removeprefix("wan.in."), counter


def test_rollback_goes_back_over_changes(host: Host) -> None:
    path = write(host, ["drop udp dport 53 as dns"])
    steps(host, path)
    for name in ("one", "two"):
        write(host, [f"pass udp dport 53 as {name}"])
        assert IN_PLACE in steps(host, path)[0]
    host.netc("rollback")
    host.send(udp(53), 2)
    assert host.counts()["xdp", "wan.in.one"] == 2 and host.json("verify")["ok"]
    host.netc("remove")
    host.netc("rollback")
    assert host.json("verify")["ok"]


WHOLE = {
    "another default": ("  default drop", "  default pass"),
    "a limit": ("  default drop", "  pass tcp dport 80 limit 10pps as web\n  default drop"),
    "a dynamic set": ("  default drop", "  drop src in slow as slowly\n  default drop"),
    "a field that was not asked": ("  default drop", "  drop ttl 1 as hop\n  default drop"),
    "a set": ("198.51.100.0/24", "198.51.100.0/25"),
    "a kind of control packet": ("  default drop", "  drop arp as arps\n  default drop"),
    "a device": ("nic wan {", "nic lan { device lan0 }\nnic wan {"),
    "another block": ("  default drop\n}", "  default drop\n}\nfilter wan out { default pass }"),
    "more than fit": ("  default drop", "".join(f"  drop udp dport {5000 + n} as m{n}\n" for n in range(33)) + "  default drop"),
}


@pytest.mark.parametrize("what", WHOLE)
def test_more_than_rules_of_tables_is_applied_whole(host: Host, what: str) -> None:
    path = write(host, ["pass tcp dport 22 as ssh"])
    steps(host, path)
    path.write_text(path.read_text().replace(*WHOLE[what]))
    if "lan0" in WHOLE[what][1]:
        assert "no device lan0" in host.netc("apply", path, status=1).stderr
        return
    assert any("load wan.xdp" in text for text in steps(host, path))
    assert host.json("verify")["ok"]


def test_errors_are_told_as_ever_and_nothing_changes(host: Host) -> None:
    path = write(host, ["pass tcp dport 22 as ssh"])
    steps(host, path)
    before = host.attached()
    write(host, ["pass tcp dport 22 as ssh", "drop upd dport 53 as dns"])
    refused = host.netc("apply", path, status=1)
    assert "error[" in refused.stderr and "upd" in refused.stderr
    write(host, ["pass tcp dport 22 as ssh", "drop udp dport 53 as ssh"])
    assert "error[N021]" in host.netc("apply", path, status=1).stderr
    assert host.attached() == before


def test_protected_packets_stay_protected(host: Host) -> None:
    head = HEAD + "protect wan { tcp src in office dport 22 }\n"
    path = write(host, ["pass tcp src in office dport 22 as ssh", "drop udp dport 53 as dns"], head=head)
    steps(host, path)
    write(host, ["drop tcp dport 22 as no", "pass tcp src in office dport 22 as ssh", "drop udp dport 53 as dns"], head=head)
    assert "error[N601]" in host.netc("apply", path, status=1).stderr
    write(host, ["drop udp dport 53 as dns"], head=head)
    assert "error[N602]" in host.netc("apply", path, status=1).stderr
    write(host, ["drop udp dport 123 as ntp", "pass tcp src in office dport 22 as ssh", "drop udp dport 53 as dns"], head=head)
    assert IN_PLACE in steps(host, path)[0]


def test_a_hand_edit_of_the_changes_is_drift_and_mended(host: Host) -> None:
    path = write(host, ["pass tcp dport 22 as ssh"])
    steps(host, path)
    write(host, ["pass tcp dport 2222 as ssh"])
    steps(host, path)
    fd = bpf.get_pinned(host.directory / "bpf/gen-1/wan~xdp~changes")
    changed_rules.publish(fd, bpf.map_info(fd).value_size, bytes(len(changed_rules.in_force(fd, bpf.map_info(fd).value_size))), {})
    os.close(fd)
    assert "other" in json.dumps(host.json("verify", status=1))
    assert any("load wan.xdp" in text for text in steps(host, path))
    host.send(tcp(2222), 2)
    assert host.counts()["xdp", "wan.in.ssh"] == 2 and host.json("verify")["ok"]


KILL = """
import os, signal, sys
from runtime import changed_rules, cli, state
where, real = sys.argv[1], {"publish": changed_rules.publish, "record": state.Store.write_record}
def publish(*arguments):
    if where == "before":
        os.kill(os.getpid(), signal.SIGKILL)
    real["publish"](*arguments)
    if where == "after":
        os.kill(os.getpid(), signal.SIGKILL)
def record(*arguments):
    real["record"](*arguments)
    os.kill(os.getpid(), signal.SIGKILL)
changed_rules.publish = publish
if where == "committed":
    state.Store.write_record = record
sys.exit(cli.main(sys.argv[2:]))
"""


@pytest.mark.parametrize("where", ["before", "after", "committed"])
def test_a_change_that_was_killed_is_ended(host: Host, where: str) -> None:
    path = write(host, ["drop udp dport 53 as dns"])
    steps(host, path)
    old = path.read_text()
    write(host, ["pass udp dport 53 as dns"])
    command = host.command("apply", path)
    at = command.index("-m")
    done = subprocess.run([*command[:at], "-c", KILL, where, *command[at + 2 :]], capture_output=True, cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL, done.stderr
    path.write_text(path.read_text() if where == "committed" else old)
    ended = host.json("apply", path)  # the watchdog may have been here before, unless the same place kills it
    assert "was cut short" in (ended["recovered"] or [host.ended()])[0] and not ended["changed"]
    host.send(udp(53), 2)
    assert host.counts()["xdp", "wan.in.dns"] == 2 and host.json("verify")["ok"]
    verdict = next(c["verdict"] for c in host.json("counters")["counters"] if c["name"] == "wan.in.dns")
    assert verdict == ("pass" if where == "committed" else "drop")


def test_neither_lark_nor_pyroute2_nor_numpy_is_imported(host: Host) -> None:
    path = write(host, ["drop udp dport 53 as dns"])
    steps(host, path)
    write(host, ["pass udp dport 53 as dns"])
    command = host.command("apply", path)
    said = subprocess.run([*command[: command.index("-m")], "-X", "importtime", *command[command.index("-m") :]], capture_output=True, text=True, cwd=ROOT, check=True)
    assert IN_PLACE in said.stderr
    imported = {line.rpartition("|")[2].strip() for line in said.stderr.split("\n") if line.startswith("import time:")}
    assert not imported & {"lark", "pyroute2", "numpy", "bcc", "nftables", "compiler.pipeline"}
    index = next((host.directory / "state/bundles").glob("*.index"))
    child = [sys.executable, "-I", "-X", "importtime", "-m", "compiler", "change", str(index), str(path), "0"]
    told = subprocess.run(child, capture_output=True, check=True)
    assert told.stdout.startswith(b"netc-change 1 ")
    imported = {line.rpartition("|")[2].strip() for line in told.stderr.decode().split("\n")}
    assert not imported & {"lark", "pyroute2", "numpy", "bcc", "nftables", "compiler.pipeline"}


def test_a_fixed_set_changes_on_top_of_rules_that_changed_in_place(host: Host) -> None:
    """The bundle's text is the changed one: compiled again with other members, it still has the new rules."""
    path = write(host, ["pass tcp src in office dport 22 as ssh"])
    steps(host, path)
    write(host, ["pass tcp src in office dport 22 as ssh", "pass udp dport 53 as dns"])
    assert IN_PLACE in steps(host, path)[0]
    host.netc("set", "add", "office", "203.0.113.0/24")
    host.send(tcp(22), 2)
    host.send(udp(53), 3)
    counts = host.counts()
    assert counts["xdp", "wan.in.ssh"] == 2 and counts["xdp", "wan.in.dns"] == 3 and host.json("verify")["ok"]
    assert any("load wan.xdp" in text for text in steps(host, path)), "the file's members come back by a whole apply"
    host.send(tcp(22), 1)
    assert host.counts()["xdp", "wan.in.ssh"] == 2


def test_dynamic_sets_change_beside_rules_that_changed_in_place(host: Host) -> None:
    path = write(host, ["drop src in slow as slowly", "drop udp dport 53 as dns"])
    steps(host, path)
    write(host, ["drop src in slow as slowly", "pass udp dport 53 as dns"])
    assert IN_PLACE in steps(host, path)[0]
    host.netc("set", "add", "slow", "203.0.113.9")
    host.send(udp(53), 2)
    assert host.counts()["xdp", "wan.in.slowly"] == 2


def test_a_kernel_that_cannot_tell_when_packets_were_judged_gets_a_whole_apply(host: Host) -> None:
    path = write(host, ["drop udp dport 53 as dns"])
    steps(host, path)
    write(host, ["pass udp dport 53 as dns"])
    command = host.command("apply", path)
    at = command.index("-m")
    without = "import sys\nfrom runtime import cli\nfrom runtime.backends import membarrier\nmembarrier.is_there = lambda: False\nsys.exit(cli.main(sys.argv[1:]))"
    done = subprocess.run([*command[:at], "-c", without, *command[at + 2 :]], capture_output=True, text=True, cwd=ROOT, check=True)
    assert "load wan.xdp" in done.stderr and IN_PLACE not in done.stderr
    host.send(udp(53), 2)
    assert host.counts()["xdp", "wan.in.dns"] == 2 and host.json("verify")["ok"]
