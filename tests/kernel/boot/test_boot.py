"""`netc boot`: the confirmed bundle, else the last good one, else closed but for what is protected; never open, never cut off."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time

import pytest

from tests.kernel.apply.hosts import DNS, ROOT, SSH, Host, made, program
from tests.kernel.boot.conftest import knock, plug, reboot, record

OLD, NEW = made(program(DNS), "old.netc"), made(program(DNS, SSH), "new.netc")


def both(host: Host) -> None:
    host.netc("apply", host.write(OLD, "old.bundle"))
    host.netc("apply", host.write(NEW, "new.bundle"))


def stored(host: Host, data: bytes) -> object:
    from compiler import bundle as bundles

    return host.directory / f"state/bundles/{bundles.identity(data)}.bundle"


def test_the_confirmed_policy_comes_back(host: Host) -> None:
    both(host)
    reboot(host)
    said = host.json("boot")
    assert said["confirmed"] and said["outcome"]["installed"]["policy"] == "new.netc" and said["refused"] == []
    assert host.json("verify")["ok"] and "netc-boot" not in host.run("nft", "list", "tables")
    again = host.netc("boot")  # systemctl restart: the same boot, nothing is closed and nothing changed
    assert "nothing to do" in again.stdout
    assert host.json("remove")["left"] == []
    reboot(host)
    assert "no policy is confirmed" in host.netc("boot").stdout, "what was removed stays removed"
    assert knock(host, 80)


def test_a_damaged_bundle_gives_way_to_the_last_good_one(host: Host) -> None:
    both(host)
    reboot(host)
    path = stored(host, NEW)
    path.write_bytes(path.read_bytes()[:-7])  # type: ignore[attr-defined]
    done = host.netc("boot", status=1)
    assert "AN OLDER POLICY IS IN FORCE" in done.stderr and "new.netc" in done.stderr and "it was cut or changed" in done.stderr, done.stderr
    assert host.json("status")["policy"] == "old.netc" and "netc-boot" not in host.run("nft", "list", "tables")


@pytest.mark.parametrize("how", ["bundles", "state", "verifier", "device"])
def test_where_none_can_be_applied_the_devices_are_closed(host: Host, how: str) -> None:
    both(host)
    reboot(host)
    if how == "bundles":
        for data in (OLD, NEW):
            stored(host, data).write_bytes(b"netc-bundle 1 0\n")  # type: ignore[attr-defined]
    elif how == "state":
        (host.directory / "state/state.json").write_bytes(b"{")
    elif how == "verifier":  # native XDP is refused to fewer receive queues than the peer has transmit queues
        host.run("ethtool", "-L", "wan0", "rx", "1", "tx", "1")
    else:
        host.run("ip", "link", "set", "wan0", "down")
        host.run("ip", "link", "set", "wan0", "name", "lost0")
        host.run("ip", "link", "set", "lost0", "up")
    began = time.monotonic()
    done = host.netc("boot", "--wait", "0.3", status=1)
    assert "NO POLICY IS IN FORCE" in done.stderr and "tcp port 22" in done.stderr and time.monotonic() - began < 20, done.stderr
    if how == "device":
        host.run("ip", "link", "set", "lost0", "down")
        host.run("ip", "link", "set", "lost0", "name", "wan0")
        host.run("ip", "link", "set", "wan0", "up")
    assert knock(host, 22) and not knock(host, 80)
    assert how == "state" or "no policy could be applied at boot" in host.netc("status", status=1).stderr
    if how in ("verifier", "device"):
        host.run("ethtool", "-L", "wan0", "rx", "4", "tx", "4")
        assert host.json("boot")["confirmed"]
    else:
        (host.directory / "state/state.json").unlink(missing_ok=True)
        host.netc("apply", host.write(NEW, "new.bundle"))
    assert "netc-boot" not in host.run("nft", "list", "tables")
    assert host.json("verify")["ok"]


def test_what_is_protected_is_let_in(host: Host) -> None:
    """A bundle that says what its policy protects, and cannot be applied: those flows and no others."""
    from compiler import bundle as bundles

    if "protected" not in bundles.Bundle.__struct_fields__:
        pytest.skip("this format of bundles does not say what is protected")
    flow = {"nic": "wan", "family": 4, "proto": 6, "src": ("192.0.2.2", "192.0.2.9"), "dst": ("", ""), "sport": 40000, "dport": 8022, "icmp": -1,
            "flags": 2, "vlan": 0, "dscp": 0, "ttl": 64, "text": "protect", "file": "p.netc", "line": 1}  # fmt: skip
    host.netc("apply", host.write(made(program(DNS), protected=(bundles.Protected(**flow),))))  # type: ignore[attr-defined]
    reboot(host)
    host.run("ethtool", "-L", "wan0", "rx", "1", "tx", "1")
    host.netc("boot", "--wait", "0", status=1)
    assert knock(host, 8022) and not knock(host, 22) and not knock(host, 80)


def test_a_device_that_comes_late_is_waited_for(host: Host) -> None:
    both(host)
    reboot(host, device="")
    later = threading.Timer(1.5, plug, (host,))
    later.start()
    try:
        assert host.json("boot", "--wait", "20")["confirmed"]
    finally:
        later.join()


def test_killed_at_any_moment_it_is_closed_or_in_force(host: Host) -> None:
    both(host)
    for seconds in (0.25, 0.5, 0.8, 1.2):
        reboot(host)
        child = subprocess.Popen(host.command("boot"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd=ROOT)
        while "netc-boot" not in host.run("nft", "list", "tables") and child.poll() is None:
            time.sleep(0.01)
        time.sleep(seconds)
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert "netc-boot" in host.run("nft", "list", "tables") or host.attached()["xdp"], f"open after {seconds} s"
        host.netc("boot")
        assert host.json("verify")["ok"] and "netc-boot" not in host.run("nft", "list", "tables")


def test_neither_compiler_nor_lark_nor_bcc_is_imported(host: Host) -> None:
    both(host)
    reboot(host)
    command = host.command("boot")
    at = command.index("-m")
    script = "import sys; from runtime.cli import main; s = main(sys.argv[1:]); print('@', s, *sorted(sys.modules))"
    done = subprocess.run([*command[:at], "-c", script, *command[at + 2 :]], capture_output=True, text=True, cwd=ROOT, check=True)
    modules = set(done.stdout.split("@")[1].split()[1:])
    assert modules.isdisjoint({"lark", "bcc", "compiler.parser", "compiler.lower", "runtime.compiler_child"}), modules
    assert {name for name in modules if name.startswith("compiler.")} <= {"compiler.bundle", "compiler.tables"} | {n for n in modules if n.startswith("compiler.tables.")}
    assert record(host)["current"] and os.geteuid() == 0
