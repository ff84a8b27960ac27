"""Two state directories on one host: what one installed the other refuses to touch, says whose it is, and takes over only when told to."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime.boot import boot_id
from tests.kernel import reduced
from tests.kernel.apply.hosts import DNS, ESTABLISHED, ROOT, SSH, Host, made, program, tcp, udp

LATE = program(DNS, ESTABLISHED)
EARLY = program(DNS)
SHAPED = program(shape=True)


def other(host: Host, *arguments: str | Path, bpffs: str = "bpf") -> subprocess.CompletedProcess[str]:
    """netc with a state directory of its own, in the same network namespace."""
    where = ["--state-dir", host.directory / "other", "--bpffs", host.directory / bpffs]
    reduced.mount(host.directory / bpffs)
    command = reduced.command(host.netns, [sys.executable, "-m", "runtime.cli", *map(str, [*arguments, *where])])
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)


def refused(host: Host, done: subprocess.CompletedProcess[str]) -> None:
    assert done.returncode == 1, done
    named = f"{host.directory}/state" in done.stderr or "the shaping tree on wan0 was installed by a netc with another" in done.stderr
    assert named and "help:" in done.stderr and "--state-dir" in done.stderr, done.stderr


@pytest.mark.parametrize(("policy", "bpffs"), [(LATE, "bpf"), (LATE, "bpf2"), (EARLY, "bpf"), (SHAPED, "bpf2")], ids=["all", "nft", "pins", "tc"])
def test_a_second_state_directory_is_refused(host: Host, policy: object, bpffs: str) -> None:
    bundle = host.write(made(policy))  # type: ignore[arg-type]
    host.netc("apply", bundle)
    before = host.attached()
    for command in ("plan", "apply"):
        refused(host, other(host, command, bundle, bpffs=bpffs))
    if policy is not SHAPED:  # nothing of that state directory's is installed: it has nothing to remove
        refused(host, other(host, "remove", bpffs=bpffs))
        refused(host, other(host, "status", bpffs=bpffs))
    assert {k: v for k, v in host.attached().items() if k != "pins"} == {k: v for k, v in before.items() if k != "pins"}
    assert host.json("verify")["ok"]
    assert host.json("remove")["left"] == []
    assert other(host, "apply", bundle, bpffs=bpffs).returncode == 0, "what was removed is nobody's"
    assert other(host, "remove", bpffs=bpffs).returncode == 0
    if bpffs == "bpf2":
        subprocess.run(["umount", host.directory / bpffs], check=False)


def test_taking_over_and_what_the_first_one_sees(host: Host) -> None:
    bundle, less = host.write(made(LATE)), host.write(made(EARLY), "less.bundle")
    host.netc("apply", bundle)
    host.netc("apply", less)
    host.netc("apply", bundle)
    done = other(host, "apply", bundle, "--take-over")
    assert done.returncode == 0, done
    assert other(host, "verify").returncode == 0
    before = host.attached()
    journal = {"command": "apply", "generation": 9, "new": "", "old": "", "bindings": {}, "old_bindings": {}, "boot": boot_id()}
    for command in (["apply", bundle], ["remove"], ["rollback"], ["plan", bundle]):
        (host.directory / "state/journal.jsonl").write_text(json.dumps(journal) + "\n")  # a recovery must not touch it either
        told = host.netc(*command, status=1)
        assert f"{host.directory}/other" in told.stderr and "--take-over" in told.stderr, told.stderr
        assert (host.directory / "state/journal.jsonl").exists()
    assert any(f"{host.directory}/other" in item["detail"] for item in host.json("status", status=1)["drift"])
    assert host.attached() == before
    (host.directory / "state/journal.jsonl").unlink()
    host.netc("apply", bundle, "--take-over")
    assert host.json("verify")["ok"]
    host.netc("remove")
    assert host.run("nft", "list", "tables") == ""


def test_a_state_directory_that_was_lost(host: Host) -> None:
    bundle = host.write(made(program(DNS, ESTABLISHED, shape=True)))
    host.netc("apply", bundle)
    shutil.rmtree(host.directory / "state")
    told = host.netc("apply", bundle, status=1).stderr
    assert "was made anew" in told and "--take-over" in told, told
    host.netc("apply", bundle, "--take-over")
    assert host.json("verify")["ok"]
    assert host.json("remove")["left"] == []


def test_an_apply_that_failed_leaves_no_claim(host: Host) -> None:
    host.run("ethtool", "-L", "wan0", "rx", "1", "tx", "1")
    bundle = host.write(made(LATE))
    host.netc("apply", bundle, status=1)
    host.run("ethtool", "-L", "wan0", "rx", "4", "tx", "4")
    done = other(host, "apply", bundle)
    assert done.returncode == 0, done


@pytest.mark.parametrize("at", ["flip", "commit"])
def test_a_taking_over_that_was_killed_leaves_what_was_there(host: Host, at: str) -> None:
    """The first one's directory is there, so what it knows is known: rules, counters, shape."""
    first = host.write(made(program(DNS, SSH, ESTABLISHED, shape=True), "first.netc"), "first.bundle")
    second = host.write(made(program(DNS, ESTABLISHED), "second.netc"), "second.bundle")
    host.netc("apply", first)
    host.send(udp(53), 3)
    kill = "import os, signal, sys\nfrom runtime import cli, transaction\ndef die(*_, **__): os.kill(os.getpid(), signal.SIGKILL)\n"
    where = {"flip": "from runtime.steps import nft_fence\nnft_fence._Down.do = die\n", "commit": "import runtime.apply\nruntime.apply.write_after = die\n"}
    words = ["-c", kill + where[at] + "sys.exit(cli.main(sys.argv[1:]))", "apply", second, "--take-over", "--state-dir", host.directory / "other", "--bpffs", host.directory / "bpf"]
    command = reduced.command(host.netns, [sys.executable, *map(str, words)])
    assert subprocess.run(command, capture_output=True, cwd=ROOT, check=False).returncode == -9
    until = time.monotonic() + 60
    told = host.directory / "other/watchdog.txt"
    while ((host.directory / "other/journal.jsonl").exists() or not told.exists()) and time.monotonic() < until:
        time.sleep(0.05)
    assert "took back" in told.read_text()
    assert other(host, "verify").returncode == 0 and json.loads(other(host, "status", "--json").stdout)["policy"] == "first.netc"
    host.send(tcp(22), 2)
    counted = {c["name"]: c["packets"] for c in json.loads(other(host, "counters", "--json").stdout)["counters"]}
    assert (counted["wan.in.dns"], counted["wan.in.ssh"]) == (3, 2) and host.attached()["qdisc"] == "htb"
    assert other(host, "apply", second).returncode == 0 and other(host, "verify").returncode == 0
    assert other(host, "remove").returncode == 0
