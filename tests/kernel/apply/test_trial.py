"""apply --confirm: what is on trial judges, is kept by netc confirm, and is gone at the deadline or with netc rollback; nothing else changes it."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from compiler import ir
from runtime.journal import Journal
from tests.kernel.apply.hosts import DNS, ESTABLISHED, SSH, Host, made, program, tcp, udp

WEB = ir.Rule("web", "pass", ir.And((ir.Is("tcp"), ir.Within(ir.Field.DPORT, ((80, 80),)))), text="pass tcp dport 80")


def bundles(host: Host) -> tuple[Path, Path]:
    """The old policy knows ssh, the new one web; both judge in XDP and nft, both shape."""
    old = host.write(made(program(DNS, SSH, ESTABLISHED, shape=True), "old.netc"), "old.bundle")
    new = host.write(made(program(DNS, WEB, ESTABLISHED, shape=True), "new.netc"), "new.bundle")
    return old, new


def without_pins(attached: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in attached.items() if key != "pins"}


def test_a_confirmed_trial_stays(host: Host) -> None:
    old, new = bundles(host)
    host.netc("apply", old)
    done = host.json("apply", new, "--confirm", "10m")
    assert done["trial"] == 600 and done["installed"]["policy"] == "new.netc"
    host.send(tcp(80), 3)
    assert host.counts()["xdp", "wan.in.web"] == 3
    kept = host.json("confirm")
    assert kept["changed"] and kept["left"] == [] and kept["installed"]["policy"] == "new.netc"
    host.send(tcp(80), 2)
    assert host.counts()["xdp", "wan.in.web"] == 5
    assert host.json("verify")["ok"] and host.json("status")["trial"] == 0
    assert not [pin for pin in host.attached()["pins"] if "trial" in pin or "gen-1" in pin]
    assert host.json("remove")["left"] == []


def test_what_the_old_policy_counted_is_accounted_for_while_the_new_one_is_on_trial(host: Host) -> None:
    """`seen` goes on; without what ssh counted, which the new policy does not have, no stage would balance."""
    old, new = bundles(host)
    host.netc("apply", old)
    host.send(tcp(22), 4)
    host.netc("apply", new, "--confirm", "10m")
    assert host.json("verify")["ok"] and host.counts()["xdp", "wan.in.retired"] == 4
    host.netc("rollback")
    host.send(tcp(22), 1)
    host.netc("apply", new, "--confirm", "10m")
    assert host.json("verify")["ok"]
    host.netc("confirm")
    assert host.json("verify")["ok"] and host.counts()["xdp", "wan.in.retired"] == 5


@pytest.mark.parametrize("old_is_there", [True, False])
def test_an_unconfirmed_trial_ends_at_its_deadline(host: Host, old_is_there: bool) -> None:
    old, new = bundles(host)
    if old_is_there:
        host.netc("apply", old)
    before = host.attached()
    host.netc("apply", new, "--confirm", "1s")
    host.send(tcp(80), 3)
    ended = host.ended()
    assert "nobody confirmed it: took back" in ended
    after = host.attached()
    if not old_is_there:
        assert without_pins(after) == without_pins(before)
        host.netc("status", status=1)
        return
    assert after == before
    host.send(tcp(22), 4)
    counts = host.counts()
    assert counts["xdp", "wan.in.ssh"] == 4 and counts["xdp", "wan.in.retired"] == 3
    assert host.json("verify")["ok"] and host.json("status")["policy"] == "old.netc"


def test_a_rollback_ends_a_trial_at_once(host: Host) -> None:
    old, new = bundles(host)
    host.netc("apply", old)
    before = host.attached()
    host.netc("apply", new, "--confirm", "10m")
    done = host.json("rollback")
    assert "was on trial: took back" in done["recovered"][0] and done["installed"]["policy"] == "old.netc"
    assert host.attached() == before and host.json("verify")["ok"]


@pytest.mark.parametrize("command", [("apply", "old.bundle"), ("apply", "new.bundle"), ("apply", "old.bundle", "--confirm", "5s"), ("remove",)])
def test_nothing_else_changes_what_is_on_trial(host: Host, command: tuple[str, ...]) -> None:
    old, new = bundles(host)
    host.netc("apply", old)
    host.netc("apply", new, "--confirm", "10m")
    before = host.attached()
    words = [host.directory / word if word.endswith(".bundle") else word for word in command]
    refused = host.netc(*words, status=1)
    assert "is on trial" in refused.stderr and "netc confirm" in refused.stderr
    assert host.json("recover") == {"command": "recover", "recovered": [], "on_trial": True}
    assert host.attached() == before
    host.netc("rollback")


def test_a_confirmation_that_comes_too_late_is_refused(host: Host) -> None:
    old, new = bundles(host)
    host.netc("apply", old)
    before = host.attached()
    host.netc("apply", new, "--confirm", "1s")
    host.ended()
    assert "nothing is on trial" in host.netc("confirm", status=1).stderr
    assert host.attached() == before


def test_more_and_fewer_stages_go_on_trial_too(host: Host) -> None:
    """A hook that only one of the two policies has: it comes off, or back, at the deadline."""
    large = host.write(made(program(DNS, SSH, ESTABLISHED, shape=True), "large.netc"), "large.bundle")
    small = host.write(made(program(DNS, SSH), "small.netc"), "small.bundle")
    host.netc("apply", large)
    before = host.attached()
    host.netc("apply", small, "--confirm", "1s")
    host.send(udp(53), 2)
    host.ended()
    assert host.attached() == before and host.json("verify")["ok"]
    host.netc("apply", small, "--confirm", "1m")
    host.netc("confirm")
    assert host.json("verify")["ok"] and host.attached()["qdisc"] != "htb"
    before = host.attached()
    host.netc("apply", large, "--confirm", "1s")
    host.send(udp(53), 2)
    host.ended()
    assert host.attached() == before and host.json("verify")["ok"]


def test_the_same_policy_has_no_trial(host: Host) -> None:
    old, _ = bundles(host)
    host.netc("apply", old)
    assert not host.json("apply", old, "--confirm", "1m")["changed"]
    assert "nothing is on trial" in host.netc("confirm", status=1).stderr


@pytest.mark.parametrize("text", ["0s", "soon", "-3s", "1ms", "2d"])
def test_a_length_of_time_that_makes_no_sense_is_refused(host: Host, text: str) -> None:
    old, _ = bundles(host)
    assert "--confirm" in host.netc("apply", old, f"--confirm={text}", status=2).stderr


def test_bpf_programs_go_back_when_every_process_is_dead(host: Host) -> None:
    """The watchdog is killed, too: XDP judges by the old policy again, all the rest waits for netc recover."""
    old, new = bundles(host)
    host.netc("apply", old)
    before = host.attached()
    host.netc("apply", new, "--confirm", "2s")
    host.send(tcp(80), 3)
    for pid in watchdogs(host):
        os.kill(pid, signal.SIGKILL)
    deadline = Journal(host.directory / "state").unfinished()
    assert deadline is not None and deadline.deadline is not None
    time.sleep(max(0.0, deadline.deadline - time.monotonic()) + 0.05)
    host.send(tcp(80), 5)
    host.send(tcp(22), 4)
    assert "not all of it is taken back" in host.netc("status", status=1).stderr
    assert "nobody confirmed it: took back" in host.json("recover")["recovered"][0]
    assert host.attached() == before and host.json("recover")["recovered"] == []
    counts = host.counts()
    assert counts["xdp", "wan.in.ssh"] == 4 and counts["xdp", "wan.in.retired"] == 3 and host.json("verify")["ok"]


def watchdogs(host: Host) -> list[int]:
    """Processes of this host's netc that outlived their command."""
    found = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit() and str(host.directory).encode() in cmdline(entry)]
    assert found
    return found


def cmdline(process: Path) -> bytes:
    try:
        return (process / "cmdline").read_bytes()
    except OSError:
        return b""


def test_sets_of_what_is_on_trial_are_not_changed_by_hand(host: Host) -> None:
    policies = {name: host.directory / f"{name}.netc" for name in ("old", "narrow")}
    text = "nic wan { device wan0; xdp native }\nset office = { 198.51.100.0/24 }\nset banned : address timeout 10m size 1k NEVER full keep\n" \
           "filter wan in {\n  drop src in banned as banned\n  drop udp dport 9 as trap then add src to banned for 10m\n  default drop\n}\n"  # fmt: skip
    policies["old"].write_text(text.replace("NEVER", "never office"))
    policies["narrow"].write_text(text.replace("NEVER ", ""))
    host.netc("apply", policies["old"])
    refused = host.netc("apply", policies["narrow"], "--confirm", "1m", status=1)
    assert "set banned" in refused.stderr and "never office" in refused.stderr
    policies["old"].write_text(text.replace("NEVER", "never office").replace("dport 9 ", "dport 7 "))
    host.netc("apply", policies["old"], "--confirm", "1m")
    assert "on trial" in host.netc("set", "add", "banned", "203.0.113.1", status=1).stderr
    host.netc("confirm")
    host.netc("set", "add", "banned", "203.0.113.1")
