"""kill -9 in the middle of a change: the watchdog puts the device back to one policy, whole, and says so; without it the next command does."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from compiler import ir
from tests.kernel.apply.hosts import DNS, ESTABLISHED, ROOT, SSH, Host, made, program, tcp, udp

TSO_OFF = (ir.Setting("wan", "feature", "tso", "off", text="offload tso off"),)
KILL = """
import os, signal, sys
from runtime import cli, transaction
at, when = int(sys.argv[1]), sys.argv[2]
real, count = transaction._do, 0
def do(step, log, begun):
    global count
    if when == "before" and count == at:
        log.started(step.phase, step.text)
        os.kill(os.getpid(), signal.SIGKILL)
    real(step, log, begun)
    if when in ("after", "both") and count == at:
        os.kill(os.getpid(), signal.SIGKILL)
    count += 1
def clean(steps, report):
    os.kill(os.getpid(), signal.SIGKILL)
def undo(steps, report):
    os.kill(os.getpid(), signal.SIGKILL)
transaction._do = do
if when in ("undo", "both"):
    transaction.undo = undo
if when == "clean":
    transaction.clean = clean
sys.exit(cli.main(sys.argv[3:]))
"""


def killed(host: Host, at: int, when: str, *arguments: str | Path) -> bool:
    """Run netc and kill it at step `at`. False when it had no such step."""
    command = host.command(*arguments)
    place = command.index("-m")
    done = subprocess.run([*command[:place], "-c", KILL, str(at), when, *command[place + 2 :]], capture_output=True, cwd=ROOT, check=False)
    assert done.returncode in (0, -signal.SIGKILL), done.stderr
    return done.returncode != 0


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", [0, 3, 5, 7])
def test_an_update_that_was_killed_is_taken_back(host: Host, at: int, when: str) -> None:
    first = host.write(made(program(DNS, SSH, ESTABLISHED, shape=True), "first.netc"), "first.bundle")
    second = host.write(made(program(DNS, ESTABLISHED, shape=True, settings=TSO_OFF), "second.netc"), "second.bundle")
    host.netc("apply", first)
    host.send(udp(53), 3)
    before = host.attached()
    assert killed(host, at, when, "apply", second), "the apply has fewer steps than this test thinks"
    assert "was cut short: took back" in host.ended()
    again = host.json("apply", first)
    assert not again["changed"] and again["recovered"] == []
    assert host.json("verify")["ok"] and host.json("status")["policy"] == "first.netc"
    host.send(tcp(22), 2)
    assert host.counts()["xdp", "wan.in.ssh"] == 2 and host.counts()["xdp", "wan.in.dns"] == 3
    after = host.attached()
    assert {k: after[k] for k in after if k not in ("pins", "xdp")} == {k: before[k] for k in before if k not in ("pins", "xdp")}
    assert "tcp-segmentation-offload: on" in host.run("ethtool", "-k", "wan0")
    assert host.json("remove")["left"] == []


def test_a_first_apply_that_was_killed_leaves_nothing(host: Host) -> None:
    before = host.attached()
    bundle = host.write(made(program(DNS, SSH, ESTABLISHED, shape=True)))
    assert killed(host, 5, "after", "apply", bundle)
    assert "was cut short" in host.ended()
    assert not host.json("remove")["changed"]
    after = host.attached()
    assert {k: after[k] for k in after if k != "pins"} == {k: before[k] for k in before if k != "pins"}


def test_where_the_watchdog_is_killed_too_the_next_command_ends_the_change(host: Host) -> None:
    first = host.write(made(program(DNS, SSH, ESTABLISHED, shape=True), "first.netc"), "first.bundle")
    second = host.write(made(program(DNS, ESTABLISHED, shape=True), "second.netc"), "second.bundle")
    host.netc("apply", first)
    assert killed(host, -1, "clean", "apply", second), "the watchdog, too, dies where it cleans up"
    assert (host.directory / "state/journal.jsonl").exists()
    done = host.json("recover")
    assert "finished it" in done["recovered"][0]
    assert host.json("recover")["recovered"] == [] and not host.json("apply", second)["changed"]
    assert host.json("verify")["ok"] and host.json("status")["policy"] == "second.netc"
    assert not [pin for pin in host.attached()["pins"] if "gen-1" in pin]


def on_trial(host: Host) -> None:
    first = host.write(made(program(DNS, SSH, ESTABLISHED, shape=True), "first.netc"), "first.bundle")
    second = host.write(made(program(DNS, ESTABLISHED, shape=True), "second.netc"), "second.bundle")
    host.netc("apply", first)
    host.netc("apply", second, "--confirm", "10m")


def test_a_confirmation_that_was_killed_behind_its_commit_is_finished_before_the_deadline(host: Host) -> None:
    on_trial(host)
    assert killed(host, -1, "clean", "confirm")
    assert "finished it" in host.ended()
    assert host.json("verify")["ok"] and host.json("status")["trial"] == 0 and host.json("status")["policy"] == "second.netc"
    assert not [pin for pin in host.attached()["pins"] if "gen-1" in pin]


def test_a_trial_whose_end_was_killed_does_not_go_on(host: Host) -> None:
    """Half of it may have been taken back already: it is over, and whoever comes next goes on with its end."""
    on_trial(host)
    assert killed(host, -1, "undo", "rollback")
    assert "took back" in host.ended()
    assert host.json("verify")["ok"] and host.json("status")["policy"] == "first.netc"


def test_a_taking_over_that_was_killed_with_its_watchdog_is_ended_by_recover(host: Host) -> None:
    """What the other state directory knew is ours by then, so the policy that was there is whole again."""
    first = host.write(made(program(DNS, SSH, ESTABLISHED, shape=True), "first.netc"), "first.bundle")
    second = host.write(made(program(DNS, ESTABLISHED, shape=True), "second.netc"), "second.bundle")
    other = [word.replace(f"{host.directory}/state", f"{host.directory}/other") for word in host.command("apply", first)]
    subprocess.run(other, check=True, capture_output=True, cwd=ROOT)
    assert killed(host, 4, "both", "apply", second, "--take-over")
    assert "took back" in host.json("recover")["recovered"][0]
    assert host.json("recover")["recovered"] == [] and host.json("verify")["ok"] and host.json("status")["policy"] == "first.netc"
