"""What the racks refuse to touch, and that a setting which a test leaves behind fails that test."""

from __future__ import annotations

import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwtests.rack import safety, snapshot, transport, wire
from hwtests.rack.errors import CommandFailed, Unsafe
from hwtests.rack.machine import Machine

ROOT = Path(__file__).parents[3]
LEAKING = '''
def test_leaks(port):
    port.machine.run("ip", "link", "set", port.device, "mtu", "1400")

def test_after_it(port):
    pass

def test_undoes(port):
    port.machine.change("ip", "link", "set", port.device, "mtu", "1300", undo=["ip", "link", "set", port.device, "mtu", "1400"])

def test_cannot_undo(port):
    port.machine.change("true", undo=["false"])
'''


@pytest.fixture
def machine(netns: str, tmp_path: Path) -> Iterator[Machine]:
    """A namespace with a NIC `nut0` and a route by `up0`."""
    with transport.local("dut") as channel:
        made = Machine("dut", channel, netns, work=str(tmp_path / "work"))
        made.prepare()
        made.run("sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1", "net.ipv6.conf.default.disable_ipv6=1")
        for device in ("nut0", "up0"):
            made.run("ip", "link", "add", device, "type", "veth", "peer", "name", f"{device}p")
            made.run("ip", "link", "set", device, "up")
        made.run("ip", "addr", "add", "192.0.2.1/24", "dev", "up0")
        made.run("ip", "route", "add", "default", "via", "192.0.2.254")
        yield made


def test_a_free_port_is_taken(machine: Machine) -> None:
    safety.check(machine, "nut0")


@pytest.mark.parametrize(
    ("change", "device", "words"),
    [
        ([], "up0", "carries the default route"), ([], "lo", "is the loopback device"), ([], "not0", "there is no device not0"),
        (["ip", "link", "add", "br7", "type", "bridge"], "nut0", "is a port of br7"),
        (["ip", "link", "add", "link", "nut0", "name", "mv7", "type", "macvlan"], "nut0", "carries mv7"),
    ],
)  # fmt: skip
def test_what_is_somebody_elses_is_refused(machine: Machine, change: list[str], device: str, words: str) -> None:
    if change:
        try:
            machine.run(*change)
        except CommandFailed as error:
            pytest.skip(f"this kernel has no such device: {error}")
    if "br7" in change:
        machine.run("ip", "link", "set", "nut0", "master", "br7")
    with pytest.raises(Unsafe, match=words):
        safety.check(machine, device)


def test_named_as_management(machine: Machine) -> None:
    with pytest.raises(Unsafe, match="named as management"):
        safety.check(machine, "nut0", management=("nut0",))


def test_somebody_elses_program(machine: Machine, tmp_path: Path) -> None:
    """An XDP program that was there before is not netc's to take off."""
    from runtime.backends import bpf, link
    from runtime.lab import netns

    with netns.enter(machine.netns):
        program = bpf.load_program("xdp", bytes.fromhex("b7000000020000009500000000000000"), {}, "theirs")
        attached = bpf.Fd(bpf.link_create(program, link.get("nut0").ifindex, bpf.XDP, 0))
        with bpf.Fd(program), attached, pytest.raises(Unsafe, match="somebody's XDP program"):
            safety.check(machine, "nut0")


CHANGES = (
    ("link", "ip link set nut0 mtu 1400"), ("addr", "ip addr add 198.51.100.1/24 dev nut0"), ("addr", "ip link add left0 type veth"),
    ("tc", "tc qdisc add dev nut0 root pfifo"), ("nft", "nft add table inet left"), ("ethtool-k", "ethtool -K nut0 gro on"),
    ("sysctl", "sysctl -qw net.ipv4.ip_default_ttl=61"), ("sysctl", "sysctl -qw net.ipv4.conf.nut0.rp_filter=2"),
    ("queues", "ip netns exec NETNS sh -c 'echo 1 > /sys/class/net/nut0/queues/rx-0/rps_cpus'"), ("route", "ip route add 203.0.113.0/24 dev up0"),
    ("neigh", "ip neigh add 198.18.0.9 lladdr 02:00:00:00:00:09 dev nut0 nud permanent"),
)  # fmt: skip


@pytest.mark.parametrize(("section", "command"), CHANGES)
def test_each_kind_of_setting_is_seen(machine: Machine, section: str, command: str) -> None:
    before = snapshot.take(machine, "nut0")
    assert snapshot.differences(before, snapshot.take(machine, "nut0")) == [], "quiet by itself"
    machine.run(*shlex.split(command.replace("NETNS", machine.netns)))
    found = snapshot.differences(before, snapshot.take(machine, "nut0"))
    assert section in [text.split(":")[0] for text in found], found


def test_counters_are_no_settings(machine: Machine) -> None:
    before = snapshot.take(machine, "nut0")
    wire.send(machine, "nut0", [bytes(12) + b"\x88\xb5" + bytes(50)], count=20)
    assert snapshot.differences(before, snapshot.take(machine, "nut0")) == []


def test_a_leak_fails_the_test_that_made_it(tmp_path: Path) -> None:
    """And no other one; an undo that fails does, too."""
    (tmp_path / "test_it.py").write_text(LEAKING)
    argv = [sys.executable, "-m", "pytest", "-p", "hwtests.conftest", "-p", "no:cacheprovider", "-p", "no:labgrid", "--rack", "lab", str(tmp_path / "test_it.py"),
            "-q", "-rA", "--rootdir", str(tmp_path)]  # fmt: skip
    done = subprocess.run(argv, cwd=ROOT, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False)
    told = done.stdout + done.stderr
    assert "4 passed, 2 errors" in told, told
    assert "ERROR at teardown of test_leaks[wan]" in told and "leaked link: - mtu=1500; + mtu=1400" in told, told
    assert "ERROR at teardown of test_cannot_undo[wan]" in told and "undo `false` failed (status 1)" in told, told


def test_the_undo_stack_of_a_test_is_its_own(machine: Machine) -> None:
    """What was registered before the test stays registered."""
    kept = machine.ask("undo", ["ip", "link", "set", "up0", "mtu", "1200"])["undo"]
    machine.change("ip", "link", "set", "nut0", "mtu", "1400", undo=["ip", "link", "set", "nut0", "mtu", "1500"])
    assert machine.undone.unwind() == []
    assert [machine.json("ip", "-j", "link", "show", device)[0]["mtu"] for device in ("nut0", "up0")] == [1500, 1500]
    machine.ask("release", kept)
