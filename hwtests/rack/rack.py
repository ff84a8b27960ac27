"""A rack, opened: every machine with its agent, every port with its wire, addresses set, and what is unsafe refused. Closing gives all back."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import ip_interface
from pathlib import Path
from typing import Any

from hwtests.rack import lab, safety, transport
from hwtests.rack.errors import RackError
from hwtests.rack.file import BY_ADDRESS, Device, Far, MachineFile, RackFile
from hwtests.rack.file import Port as PortFile
from hwtests.rack.machine import Machine, own_directory
from hwtests.rack.port import Port
from hwtests.rack.wire import AgentWire

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Rack:
    """kind: how the machine under test is reached (lab, virtual, local, ssh, labgrid)."""

    name: str
    kind: str
    machines: dict[str, Machine]
    ports: dict[str, Port]

    @property
    def dut(self) -> Machine:
        return next(iter(self.ports.values())).machine

    def other(self, port: Port) -> Port:
        """Another port of the same machine, for tests that need two; the test is skipped where there is none."""
        import pytest

        found = next((other for other in self.ports.values() if other is not port and other.profile["xdp"]["native"]), None)
        return found or pytest.skip(f"needs a second port with native XDP; rack {self.name} has {', '.join(self.ports)}")


@contextmanager
def opened(file: RackFile, base: Path = Path()) -> Iterator[Rack]:
    """Reach every machine, refuse unsafe ports, set addresses. base: where relative paths of the file start. Raises RackError, Unsafe."""
    kind = file.machines[file.dut].transport
    with ExitStack() as stack:
        machines = {name: stack.enter_context(_machine(name, machine, base)) for name, machine in file.machines.items()
                    if machine.transport not in ("lab", "virtual")}  # fmt: skip
        if kind == "lab":
            ports = stack.enter_context(_lab(file))
        elif kind == "virtual":
            from hwtests.rack import virtual

            ports = stack.enter_context(virtual.ports(file))
        else:
            ports = {name: _real(name, port, file, machines) for name, port in file.ports.items()}
        machines |= {port.machine.name: port.machine for port in ports.values()}
        for port in ports.values():
            safety.check(port.machine, port.device, file.machines[file.dut].management, real=kind not in ("lab", "virtual"))
        for port in ports.values():
            _addressed(port)
        yield Rack(file.name, kind, machines, ports)


@contextmanager
def _machine(name: str, file: MachineFile, base: Path) -> Iterator[Machine]:
    own = transport.local(name) if file.local else transport.remote(name, file, base)
    with own as channel:
        machine = Machine(name, channel, file.local.netns if file.local else "", netc_here(file.netc), own_directory())
        machine.prepare()
        yield machine


def netc_here(path: str) -> str:
    """The `netc` of a machine that sees this checkout; the one beside this Python unless the rack file names one."""
    beside = Path(sys.executable).with_name("netc")
    return path or (str(beside) if beside.exists() else shutil.which("netc") or "netc")


@contextmanager
def _lab(file: RackFile) -> Iterator[dict[str, Port]]:
    machine_file = file.machines[file.dut]
    assert machine_file.lab
    queues = machine_file.lab.queues
    with transport.local(file.dut) as channel:
        work = own_directory()
        prefix = Path(work).name.replace("netc-hwtests", "nh")
        with lab.wired(channel, prefix, list(file.ports), queues) as (dut, peer):
            near = Machine(file.dut, channel, dut, netc_here(machine_file.netc), work)
            near.prepare()
            far = near.inside(peer, "peer")
            yield {name: _lab_port(name, number, near, far) for number, name in enumerate(file.ports, 1)}


def _lab_port(name: str, number: int, near: Machine, far: Machine) -> Port:
    device = lab.far_device(name)
    wire = AgentWire(far, device, _mac(far, device))
    return Port(name, near, lab.device(name), f"198.18.{number}.1/24", f"198.18.{number}.2/24", wire)


def _real(name: str, port: PortFile, file: RackFile, machines: dict[str, Machine]) -> Port:
    assert port.peer
    dut, far = machines[file.dut], machines[port.peer.machine]
    device = found(dut, port.device, port.address)
    far_device = found(far, port.peer.device, port.far_address)
    sender = _generator(port.generator, machines)
    wire = AgentWire(far, far_device, _mac(far, far_device), *sender)
    return Port(name, dut, device, port.address, port.far_address, wire, port.mbit, port.quirks)


def _generator(far: Far | None, machines: dict[str, Machine]) -> tuple[Any, ...]:
    return (machines[far.machine], found(machines[far.machine], far.device, "")) if far else ()


def found(machine: Machine, device: Device, address: str) -> str:
    """The name that a device of the rack file has now. Raises RackError when there is none."""
    if device.name == BY_ADDRESS:
        return _by_address(machine, address)
    if device.name:
        machine.json("ip", "-j", "link", "show", "dev", device.name)
        return device.name
    if device.mac:
        return _by_mac(machine, device.mac)
    place = f"/sys/bus/pci/devices/{device.pci}"
    names = machine.run("sh", "-c", f"ls {place}/net {place}/virtio*/net 2>/dev/null | grep -v : | grep .", status=None).out.split()
    if len(names) <= device.port:
        raise RackError(f"{machine.name}: {device.pci} has {len(names)} network devices, there is no port {device.port}; `lspci -D` lists addresses")
    return str(sorted(names)[device.port])


def _by_mac(machine: Machine, mac: str) -> str:
    for link in machine.json("ip", "-j", "link"):
        if link.get("address") == mac and not link.get("link"):  # a VLAN device has its parent's
            return str(link["ifname"])
    raise RackError(f"{machine.name}: no device has the MAC address {mac}")


def _by_address(machine: Machine, address: str) -> str:
    wanted = str(ip_interface(address).ip)
    for link in machine.json("ip", "-j", "addr"):
        if any(info.get("local") == wanted for info in link["addr_info"]):
            return str(link["ifname"])
    raise RackError(f"{machine.name}: no device has the address {wanted}")


def _mac(machine: Machine, device: str) -> str:
    return str(machine.json("ip", "-j", "link", "show", "dev", device)[0]["address"])


def _addressed(port: Port) -> None:
    """The port up, with its address, and the far end a permanent neighbour: what the device answers does not wait for ARP."""
    machine, device = port.machine, port.device
    link = machine.json("ip", "-j", "addr", "show", "dev", device)[0]
    if "UP" not in link["flags"]:
        machine.ask("undo", ["ip", "link", "set", device, "down"])
        machine.run("ip", "link", "set", device, "up")
    if port.address not in [info.get("local") for info in link["addr_info"]]:
        machine.ask("undo", ["ip", "addr", "del", port.near, "dev", device])
        machine.run("ip", "addr", "add", port.near, "dev", device)
    neighbours = json.loads(machine.run("ip", "-j", "neigh", "show", port.far_address, "dev", device, status=None).out or "[]")
    if not any("PERMANENT" in entry.get("state", []) for entry in neighbours):
        machine.ask("undo", ["sh", "-c", f"ip neigh del {port.far_address} dev {device} || true"])  # a link that went down took it along
        machine.run("ip", "neigh", "replace", port.far_address, "lladdr", port.wire.mac, "dev", device, "nud", "permanent")
    port.up()
