"""Somebody else's XDP program: refused by name, taken over when told to, kept over applies and crashes, and put back."""

from __future__ import annotations

import os
import signal
import subprocess

import pytest

from runtime.backends import bpf, link
from runtime.lab import netns
from tests.kernel.apply.hosts import DNS, ROOT, SSH, Host, made, program
from tests.kernel.foreign.conftest import attach, gates, loaded, on_device, unpinned

pytestmark = pytest.mark.needs("take-over")
FIRST, SECOND = program(DNS), program(DNS, SSH)
KILL = """
import os, signal, sys
from runtime.backends import xdp_netlink
from runtime.steps import foreign_gate, foreign_kept, xdp_attach
places = {
    "kept": (foreign_gate, "close"), "closed": (xdp_netlink, "detach"), "on": (xdp_attach.AttachStep, "do"),
    "open": (foreign_gate, "open_again"), "back": (xdp_netlink, "attach"), "forgetting": (foreign_kept.Keeper, "forget_program"),
}
where, name = places[sys.argv.pop(1)]
def die(*_): os.kill(os.getpid(), signal.SIGKILL)
setattr(where, name, die)
from runtime.cli import main
sys.exit(main())
"""


def test_it_is_named_and_left_alone(host: Host) -> None:
    theirs = attach(host, "generic", name="xdp_dispatcher")
    bundle = host.write(made(FIRST))
    before = host.attached()
    for command in ("plan", "apply"):
        told = host.netc(command, bundle, status=1).stderr
        assert f"program {theirs} (xdp_dispatcher), loaded by root on 20" in told and "(generic)" in told, told
        assert "libxdp's dispatcher" in told and "--take-over" in told, told
    assert host.attached() | {"pins": 0} == before | {"pins": 0}


@pytest.mark.parametrize("mode", ["native", "generic"])
def test_it_is_kept_over_applies_and_put_back(host: Host, mode: str) -> None:
    theirs = attach(host, mode)
    first, second = host.write(made(FIRST)), host.write(made(SECOND), "second.bundle")
    assert f"take over wan0 from XDP program {theirs}" in host.netc("plan", first, "--take-over", status=2).stdout
    assert on_device(host) == (theirs, mode)
    host.netc("apply", first, "--take-over")
    assert host.json("verify")["ok"] and on_device(host)[1] == "native" and not gates(host)
    host.netc("apply", second)
    host.netc("rollback")
    assert (host.directory / "bpf/foreign/wan0-xdp").exists()
    assert [item["what"] for item in host.json("status")["kept"]] == [f"XDP program {theirs} (theirs), {mode}"]
    said = host.netc("remove")
    assert f"put XDP program {theirs} (theirs) back on wan0 ({mode})" in said.stdout, said
    assert on_device(host) == (theirs, mode) and unpinned(host) and not gates(host)
    assert host.run("nft", "list", "tables") == ""


def test_without_the_hook_it_comes_back(host: Host) -> None:
    """A later policy leaves the XDP hook: theirs is there again, and a failed apply of one that uses it changes nothing."""
    theirs = attach(host)
    host.netc("apply", host.write(made(FIRST)), "--take-over")
    late = host.write(b"nic wan { device wan0; xdp none }\nfilter wan in { drop udp dport 53 as dns; default pass }\n", "late.netc")
    late_bundle = host.directory / "late.bundle"
    subprocess.run([os.sys.executable, "-m", "runtime.cli", "compile", late, "-o", late_bundle], check=True, cwd=ROOT)  # type: ignore[attr-defined]
    host.netc("apply", late_bundle)
    assert on_device(host) == (theirs, "native") and unpinned(host) and not gates(host)
    assert host.json("verify")["ok"]
    host.netc("remove")
    assert on_device(host) == (theirs, "native")


def test_a_failed_apply_puts_it_back(host: Host) -> None:
    theirs = attach(host, "generic")
    host.run("ethtool", "-L", "wan0", "rx", "1", "tx", "1")  # veth then refuses native XDP, after theirs has gone
    told = host.netc("apply", host.write(made(FIRST)), "--take-over", status=1).stderr
    assert "steps were taken back" in told, told
    assert on_device(host) == (theirs, "generic") and unpinned(host) and not gates(host)


@pytest.mark.needs("other processes")
def test_a_link_of_somebodys_is_refused_with_its_holder(host: Host) -> None:
    with netns.enter(host.netns):
        theirs = loaded()
        held = bpf.link_create(theirs, link.get("wan0").ifindex, bpf.XDP, bpf.XDP_FLAGS_DRV)
    try:
        for words in (["apply"], ["apply", "--take-over"]):
            told = host.netc(words[0], host.write(made(FIRST)), *words[1:], status=1).stderr
            assert f"on bpf_link {bpf.link_info(held).id}, held by process {os.getpid()} (" in told, told
        assert on_device(host) == (bpf.prog_info(theirs).id, "native")
    finally:
        os.close(held)
        os.close(theirs)


def killed(host: Host, where: str, *arguments: object) -> None:
    command = host.command(*arguments)  # type: ignore[arg-type]
    at = command.index("-m")
    done = subprocess.run([*command[:at], "-c", KILL, where, *command[at + 2 :]], capture_output=True, cwd=ROOT, check=False)
    assert done.returncode in (-signal.SIGKILL, 128 + signal.SIGKILL), done


@pytest.mark.parametrize("where", ["kept", "closed", "on", "open"])
def test_killed_while_it_is_taken_over(host: Host, where: str) -> None:
    """What is there afterwards: never nothing with the gate open; the next command puts theirs back."""
    theirs = attach(host, "generic")
    bundle = host.write(made(FIRST))
    killed(host, where, "apply", bundle, "--take-over")
    assert on_device(host)[0] or gates(host), "neither their program, nor netc's, nor a closed gate"
    host.netc("remove")
    assert on_device(host) == (theirs, "generic") and unpinned(host) and not gates(host)
    host.netc("apply", bundle, "--take-over")
    assert host.json("verify")["ok"]


@pytest.mark.parametrize("where", ["back", "open", "forgetting"])
def test_killed_while_it_is_put_back(host: Host, where: str) -> None:
    theirs = attach(host, "generic")
    host.netc("apply", host.write(made(FIRST)), "--take-over")
    killed(host, where, "remove")
    assert on_device(host)[0] or gates(host), "neither their program, nor netc's, nor a closed gate"
    host.netc("remove")
    assert on_device(host) == (theirs, "generic") and unpinned(host) and not gates(host)
