"""A program in the NIC itself: loaded, counted, replaced, taken back and taken off; what the NIC or its driver refuses leaves all as it was.

netdevsim takes such a program and never runs it, so what a NIC would count is written into its memory here. Packets through the same bytecode:
tests/kernel/xdp/test_offload.py.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import pytest

from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.requires import requires

NIC = "nic wan { device DEVICE; xdp offload }\n"
FIRST = "filter wan in {\n  drop udp dport 53 as dns\n  drop tcp dport 23 as telnet\n  pass icmp as ping\n  default drop\n}"
SECOND = "filter wan in {\n  pass icmp as ping\n  drop tcp dport 23 as telnet\n  drop udp dport 123 as ntp\n  default pass\n}"
TOOL = Path(__file__).with_name("nic_bpf.py")
_DEBUG = "/sys/kernel/debug"

pytestmark = requires("xdp.offload", "xdp.offload_maps.elements>=1")


def tool(port: Port, *words: str) -> str:
    """hwtests/nic_bpf.py on the machine under test."""
    path = f"{port.machine.work}/nic_bpf.py"
    port.machine.put(path, TOOL.read_bytes())
    root = str(Path(port.machine.netc_path).parents[2])
    return port.machine.run("env", f"PYTHONPATH={root}", str(Path(port.machine.netc_path).with_name("python")), path, *words).out.strip()


def pins(port: Port, where: str) -> list[str]:
    return port.machine.run("sh", "-c", f"ls -d {port.machine.bpffs}/{where} 2>/dev/null || true").out.split()


def nic_counts(port: Port, place: int, packets: int) -> None:
    """The NIC drops so many packets of 100 bytes by the rule at this place."""
    (pin,) = pins(port, "maps/wan~offload~*")
    tool(port, "count", pin, str(place), str(packets), str(100 * packets))


def on_nic(port: Port) -> str:
    """The name of the program that the NIC has; "" for none."""
    found = port.link().get("xdp", {}).get("attached", [])
    return next((item["prog"].get("name", "?") for item in found if item["mode"] == 3), "")


def of_others(port: Port) -> int:
    found = port.link().get("xdp", {})
    return int(next((item["prog"]["id"] for item in [found, *found.get("attached", [])] if item.get("mode") == 3), 0))


def test_on_the_nic_and_off_again(port: Port, installed: Installed) -> None:
    """Beside the host's program, which the same policy has; and the plan says what comes, which rules are where, and why."""
    installed.push(NIC + FIRST)
    assert "wan.offload" in json.dumps(port.machine.netc_json("plan", f"{port.machine.work}/policy.bundle", status=None)["entries"])
    installed.apply(NIC + FIRST)
    assert on_nic(port) == "wan.offload"
    said = port.machine.netc_json("status")
    assert {"name": "wan.offload", "nic": "wan", "hook": "xdp_offload"} in said["programs"]
    planned = port.machine.netc_json("plan", f"{port.machine.work}/policy.bundle", status=None)
    stages = {item["what"]: item["stage"] for item in planned["placements"] if "nic" in item["stage"]}
    assert {"wan.in.dns", "wan.in.telnet", "wan.in.default"} <= set(stages)
    installed.verify()
    installed.remove()
    assert not on_nic(port) and not pins(port, "*/*")


def test_what_the_nic_drops_is_counted_as_anywhere(port: Port, installed: Installed) -> None:
    """In the rule and in what was seen, balanced; and no number is lost or counted twice when rules leave the NIC, come back or go on."""
    installed.apply(NIC + FIRST)
    nic_counts(port, 0, 5)  # dns
    nic_counts(port, 1, 7)  # telnet
    now = installed.counters()
    assert (now["wan.in.dns"], now["wan.in.telnet"], now["wan.in.default"], now["wan.in.seen"]) == (5, 7, 0, 12 + now["wan.in.control"])
    installed.verify()
    before = pins(port, "maps/wan~offload~*")
    installed.apply(NIC + FIRST.replace("dport 53", "dport { 53, 5353 }"))
    assert pins(port, "maps/wan~offload~*") == before and installed.counters()["wan.in.dns"] == 5, "a program that counts the same goes on in the same place"
    installed.apply(NIC + SECOND)
    again = installed.counters()
    assert (again["wan.in.telnet"], again["wan.in.seen"]) == (7, 12 + again["wan.in.control"]), "telnet goes on, dns was seen"
    nic_counts(port, 0, 2)  # telnet
    assert installed.counters()["wan.in.telnet"] == 9
    installed.verify()
    port.machine.netc("rollback", "--allow-disruptive")
    back = installed.counters()
    assert (back["wan.in.dns"], back["wan.in.telnet"], back["wan.in.seen"]) == (5, 9, 14 + back["wan.in.control"])
    installed.verify()
    installed.apply("nic wan { device DEVICE; xdp generic }\n" + FIRST)
    assert not on_nic(port)
    alone = installed.counters()
    assert (alone["wan.in.dns"], alone["wan.in.telnet"], alone["wan.in.seen"]) == (5, 9, 14 + alone["wan.in.control"])
    installed.verify()


def _switch(port: Port, name: str) -> str:
    """A file of netdevsim's by which it refuses."""
    port.machine.change("sh", "-c", f"mountpoint -q {_DEBUG} || mount -t debugfs debugfs {_DEBUG}", undo=["true"])
    found = port.machine.run("sh", "-c", f"ls {_DEBUG}/netdevsim/netdevsim*/{name} 2>/dev/null || true").out.split()
    if not found:
        pytest.skip("only netdevsim can be told to refuse")
    return found[0]


def test_a_refusal_leaves_all_as_it_was(port: Port, installed: Installed) -> None:
    """Of the driver, of its verifier, of the attach: with nothing there before, and with a policy in force."""
    files = [_switch(port, name) for name in ("bpf_bind_accept", "bpf_bind_verifier_accept", "ports/0/bpf_xdpoffload_accept")]
    for file in files:
        _refused(port, installed, file)
        assert not port.link().get("xdp") and not pins(port, "*/*")
    installed.apply(NIC + FIRST)
    nic_counts(port, 0, 4)
    held = _rules(installed), pins(port, "*/*"), port.link()["xdp"]
    for file in files:
        _refused(port, installed, file)
        assert (_rules(installed), pins(port, "*/*"), port.link()["xdp"]) == held
    installed.verify()
    installed.apply(NIC + SECOND)
    assert on_nic(port) == "wan.offload"


def _refused(port: Port, installed: Installed, file: str) -> None:
    port.machine.change("sh", "-c", f"echo N > {file}", undo=["sh", "-c", f"echo Y > {file}"])
    words = installed.refused(NIC + SECOND)
    port.machine.run("sh", "-c", f"echo Y > {file}")
    assert "wan.offload" in words and "xdp native" in words, words


def _rules(installed: Installed) -> dict[str, int]:
    """Counters of rules: what else comes in meanwhile is nobody's concern."""
    return {name: value for name, value in installed.counters().items() if not name.endswith((".seen", ".control"))}


def test_somebody_elses_program_stays(port: Port, installed: Installed) -> None:
    """Refused; with --take-over kept, and put back when netc goes."""
    port.machine.change("true", undo=["ip", "link", "set", port.device, "xdpoffload", "off"])
    theirs = int(tool(port, "attach", port.device))
    words = installed.refused(NIC + FIRST)
    assert f"program {theirs}" in words and "xdpoffload off" in words, words
    assert of_others(port) == theirs
    installed.apply(NIC + FIRST, "--take-over")
    done = port.machine.run("ip", "link", "set", port.device, "xdpoffload", "off", status=None)
    assert done.code and on_nic(port) == "wan.offload", "nobody takes netc's off by netlink"
    installed.remove()
    assert of_others(port) == theirs


def test_what_somebody_changes_is_noticed(port: Port, installed: Installed) -> None:
    installed.apply(NIC + FIRST)
    (pin,) = pins(port, "links/wan-xdp_offload")
    tool(port, "detach", pin)
    assert not on_nic(port)
    done = port.machine.netc("verify", status=None)
    assert done.code and "not attached" in done.out, done.out
    port.machine.netc("apply", f"{port.machine.work}/policy.bundle", "--allow-disruptive")
    installed.read_back()
    (counters,) = pins(port, "maps/wan~offload~*")
    port.machine.run("rm", counters)
    done = port.machine.netc("verify", status=None)
    assert done.code and "wan.offload" in done.out, done.out
    port.machine.netc("apply", f"{port.machine.work}/policy.bundle", "--allow-disruptive")
    installed.read_back()
    assert on_nic(port) == "wan.offload"
    installed.verify()


def test_no_nic_drops_by_a_policy_on_trial(port: Port, installed: Installed) -> None:
    """From the beginning of a trial to its end the NIC is empty; then it has what is in force, and no count was lost."""
    installed.apply(NIC + FIRST)
    nic_counts(port, 0, 6)
    installed.push(NIC + SECOND)
    port.machine.netc("apply", f"{port.machine.work}/policy.bundle", "--allow-disruptive", "--confirm", "60s")
    assert not on_nic(port)
    assert port.machine.netc("verify", status=None).code == 0
    port.machine.netc("rollback", "--allow-disruptive")
    assert on_nic(port) == "wan.offload" and installed.counters()["wan.in.dns"] == 6
    installed.verify()
    port.machine.netc("apply", f"{port.machine.work}/policy.bundle", "--allow-disruptive", "--confirm", "60s")
    assert not on_nic(port)
    port.machine.netc("confirm")
    assert on_nic(port) == "wan.offload"
    installed.read_back()
    after = installed.counters()
    assert after["wan.in.seen"] >= 6 and "wan.in.dns" not in after
    installed.verify()


def test_a_trial_that_nobody_confirms(port: Port, installed: Installed) -> None:
    installed.apply(NIC + FIRST)
    installed.push(NIC + SECOND)
    port.machine.netc("apply", f"{port.machine.work}/policy.bundle", "--allow-disruptive", "--confirm", "4s")
    end = time.monotonic() + 60
    while not on_nic(port) and time.monotonic() < end:
        time.sleep(0.5)
    assert on_nic(port) == "wan.offload", "the watchdog puts the policy from before back on the NIC, too"
    assert "wan.in.dns" in installed.counters()
    installed.verify()


_POINTS = {"pin": r"BPF_OBJ_PIN.*wan~offload~program", "flip": r"BPF_LINK_UPDATE"}  # the last call of an apply that takes a policy's place


def _calls(port: Port) -> list[str]:
    """Every bpf(2) call of the main process of an apply of what was pushed, in order."""
    log = f"{port.machine.work}/strace.log"
    _traced(port, "-o", log)
    return [line for line in port.machine.run("cat", log).out.splitlines() if line.startswith("bpf(")]


def _traced(port: Port, *options: str) -> int:
    """The exit status of an apply of what was pushed, under strace."""
    netc = (port.machine.netc_path, "apply", f"{port.machine.work}/policy.bundle", "--allow-disruptive", "--state-dir", port.machine.state, "--bpffs", port.machine.bpffs)
    return port.machine.run("strace", "-qq", "-e", "trace=bpf", *options, *netc, status=None).code


def test_a_killed_apply_is_ended(port: Port, installed: Installed) -> None:
    """Killed when the NIC has its counters and its program, and behind the last flip: what was there before is back, on the NIC too, and no count is lost."""
    if port.machine.run("sh", "-c", "command -v strace", status=None).code:
        pytest.skip("strace is not on the machine under test: it kills at an exact system call")
    installed.apply(NIC + FIRST)
    nic_counts(port, 0, 6)
    before = pins(port, "*/*")
    installed.push(NIC + SECOND)
    calls = _calls(port)
    port.machine.netc("rollback", "--allow-disruptive")
    nic_counts(port, 0, 1)
    held = pins(port, "maps/*")
    assert before
    for what, pattern in _POINTS.items():
        at = max(number for number, call in enumerate(calls, 1) if re.search(pattern, call))
        assert _traced(port, "-o", "/dev/null", "-e", f"inject=bpf:signal=SIGKILL:when={at}"), what
        port.machine.netc("recover", status=None)
        assert on_nic(port) == "wan.offload", what
        now = installed.counters()
        assert now["wan.in.dns"] == 7 and "wan.in.ntp" not in now, what
        assert pins(port, "maps/*") == held, what
        installed.verify()
    port.machine.netc("apply", f"{port.machine.work}/policy.bundle", "--allow-disruptive")
    installed.read_back()
    installed.verify()
