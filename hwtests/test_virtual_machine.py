"""The virtual rack's machine itself: what its NICs are, that frames pass both ways unchanged, and that it ends however its controller ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hwtests.conftest import RACK
from hwtests.virtual.errors import RackError
from hwtests.virtual.machine import Machine, Nic, booted

NICS = (Nic("igb"), Nic("virtio", 4), Nic("virtio"), Nic("vmxnet3"), Nic("e1000e"))
DRIVERS = {
    "igb0": "igb", "virtio0": "virtio_net", "virtio1": "virtio_net", "vmxnet0": "vmxnet3", "e1000e0": "e1000e", "nsim0": "netdevsim", "nsim1": "netdevsim",
}  # fmt: skip
WIRED = [name for name in DRIVERS if not name.startswith("nsim")]
SENDER = """
import socket, sys
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind((sys.argv[1], 0))
for number in range(20):
    s.send(bytes.fromhex(sys.argv[2]) + number.to_bytes(2, "big") * 50)
"""
CONTROLLER = """
import time
from hwtests.virtual.machine import booted
with booted((), 512, 1, simulated=None) as machine:
    print(machine.process.pid, machine.log, flush=True)
    time.sleep(600)
"""
HEAD = "ffffffffffff02aaaaaaaaaa88b5"  # to all, so that no NIC's filter drops it; an EtherType for experiments: no stack answers


@pytest.fixture(scope="module")
def machine(pytestconfig: pytest.Config) -> Iterator[Machine]:
    """One machine with every kind of NIC. Only on the virtual rack: elsewhere nobody asked for a machine."""
    _only_here(pytestconfig)
    with booted(NICS, cpus=2) as made:
        made.run("sh", "-c", f"for d in {' '.join(WIRED)}; do ip link set $d up; done").check_returncode()
        yield made


def _only_here(config: pytest.Config) -> None:
    if config.stash[RACK][0].name != "virtual":
        pytest.skip("boots the virtual rack's machine: run it with --rack virtual")


def _wait(what: str, machine: Machine, command: str, wanted: str, seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while (found := machine.run("sh", "-c", command).stdout.strip()) != wanted:
        assert time.monotonic() < end, f"{what}: {found!r}, wanted {wanted!r}"
        time.sleep(0.2)


def test_devices_have_their_names_and_drivers(machine: Machine) -> None:
    found = machine.run("sh", "-c", "for d in /sys/class/net/*; do echo ${d##*/} $(ethtool -i ${d##*/} 2>/dev/null | sed -n 's/^driver: //p'); done").stdout
    assert {name: driver for name, _, driver in (line.partition(" ") for line in found.splitlines()) if name != "lo"} == DRIVERS


@pytest.mark.parametrize("name", WIRED)
def test_frames_pass_both_ways_unchanged(machine: Machine, name: str) -> None:
    _wait(f"{name}'s carrier", machine, f"cat /sys/class/net/{name}/carrier", "1")
    machine.wires[name].drain()
    machine.run("python3", "-c", SENDER, name, HEAD).check_returncode()
    sent = [bytes.fromhex(HEAD) + number.to_bytes(2, "big") * 50 for number in range(20)]
    assert [machine.wires[name].receive(20.0) for _ in sent] == sent
    assert machine.wires[name].receive(0.2) is None, "an interface without an address is silent"
    counter = f"cat /sys/class/net/{name}/statistics/rx_packets"
    before = int(machine.run("sh", "-c", counter).stdout)
    for frame in sent:
        machine.wires[name].send(frame)
    _wait(f"frames that {name} received", machine, counter, str(before + len(sent)))


@pytest.mark.parametrize("name", ["igb0", "virtio0", "vmxnet0"])
def test_a_pulled_cable_is_a_lost_carrier(machine: Machine, name: str) -> None:
    carrier = f"cat /sys/class/net/{name}/carrier"
    _wait("carrier", machine, carrier, "1")
    machine.cable(name, plugged=False)
    _wait("carrier without a cable", machine, carrier, "0")
    machine.cable(name, plugged=True)
    _wait("carrier again", machine, carrier, "1")


def test_a_module_is_loaded_when_the_kernel_asks_for_it(machine: Machine) -> None:
    machine.run("tc", "qdisc", "add", "dev", "nsim0", "root", "cake").check_returncode()
    assert "sch_cake" in machine.run("cat", "/proc/modules").stdout


def test_the_host_is_not_changed(machine: Machine) -> None:
    mark = Path("/etc/netc-was-here")
    machine.run("sh", "-c", f"echo guest > {mark}").check_returncode()
    assert machine.run("cat", str(mark)).stdout == "guest\n"
    assert not mark.exists()


def test_a_panic_is_an_error_that_shows_it(pytestconfig: pytest.Config) -> None:
    _only_here(pytestconfig)
    with pytest.raises(RackError, match=r"the machine has ended[\s\S]*Kernel panic[\s\S]*serial log: ") as caught, booted((), 512, 1, simulated=None) as guest:
        guest.run("sh", "-c", "echo c > /proc/sysrq-trigger")
    log = Path(str(caught.value).rpartition("serial log: ")[2].rstrip(")\n"))
    log.with_suffix(".qemu").unlink()
    log.unlink()


def test_a_machine_ends_with_a_controller_that_is_killed(pytestconfig: pytest.Config) -> None:
    _only_here(pytestconfig)
    controller = subprocess.Popen([sys.executable, "-c", CONTROLLER], stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[1])
    assert controller.stdout
    number, log = controller.stdout.readline().split()
    assert _alive(int(number))
    controller.send_signal(signal.SIGKILL)
    controller.wait()
    end = time.monotonic() + 20
    while _alive(int(number)):
        assert time.monotonic() < end, "QEMU is still there"
        time.sleep(0.1)
    for path in (Path(log), Path(log).with_suffix(".qemu")):
        path.unlink()


def _alive(number: int) -> bool:
    """Is this process there, and not only its entry that nobody has waited for?"""
    try:
        os.kill(number, 0)
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False
