"""Rack files: which machine is under test, by which ports, what is at their far ends, and how each machine is reached. Strict YAML.

`hwtests/racks/*.yaml` are examples with every key; hwtests/README.md tells what they mean.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import msgspec

from hwtests.rack.errors import RackFileError

RACKS = Path(__file__).parents[1] / "racks"
_MAX_FILE = 1 << 20  # bytes
_PCI = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[01][0-9a-f]\.[0-7]\Z")
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}\Z")
_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}\Z")
TRANSPORTS = ("lab", "virtual", "local", "ssh", "labgrid")


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Lab(_Strict, frozen=True):
    """Network namespaces of this machine, made for the run; each port is a veth with this many receive queues."""

    queues: int = 4


class Virtual(_Strict, frozen=True):
    """A virtual machine by hwtests/virtual, booted for the run. memory: MiB."""

    memory: int = 1536
    cpus: int = 2


class Local(_Strict, frozen=True):
    """This machine itself, or a network namespace of it that is there already."""

    netns: str = ""


class Ssh(_Strict, frozen=True):
    """A machine by labgrid's SSHDriver. keyfile: a private key; without one the agent's and the usual ones."""

    host: str
    user: str = "root"
    port: int = 22
    keyfile: str = ""


class Labgrid(_Strict, frozen=True):
    """A target of a labgrid environment file, which may take it from a coordinator (RemotePlace); it needs an SSHDriver."""

    env: str
    target: str = "main"


class Power(_Strict, frozen=True):
    """The outlet that a machine hangs on: labgrid's NetworkPowerPort. A machine that does not answer is switched off and on again."""

    model: str
    host: str
    index: str = "1"


class Device(_Strict, frozen=True):
    """Which network device: by PCI address (and port of it), by its MAC address, or by name where names are made by the rack itself."""

    pci: str = ""
    port: int = 0
    mac: str = ""
    name: str = ""


class Quirk(_Strict, frozen=True):
    """A test that is known to fail on this port, by a pattern of its name, and why: expected to fail, and reported as that."""

    test: str
    reason: str
    id: str = ""


class MachineFile(_Strict, frozen=True):
    """One machine. netc: where its `netc` is; management: devices that must never be touched; work: a directory for the tests."""

    lab: Lab | None = None
    virtual: Virtual | None = None
    local: Local | None = None
    ssh: Ssh | None = None
    labgrid: Labgrid | None = None
    netc: str = ""
    python: str = "python3"
    management: tuple[str, ...] = ()
    power: Power | None = None

    @property
    def transport(self) -> str:
        """The one of TRANSPORTS that is given; "" when none or several are."""
        given = [name for name in TRANSPORTS if getattr(self, name) is not None]
        return given[0] if len(given) == 1 else ""


class Far(_Strict, frozen=True):
    """One end of the cable that is not under test: a machine and a device of it."""

    machine: str
    device: Device


class Port(_Strict, frozen=True):
    """A port of the device under test. address: with prefix length, of this end; far_address: of the other. peer: what is at the far end;
    generator: what sends, when the peer does not. nic, queues: what a virtual machine gets. mbit: the link's, for rates.
    aside: only the second one of tests that need two."""

    device: Device = Device()
    address: str = ""
    far_address: str = ""
    peer: Far | None = None
    generator: Far | None = None
    nic: str = ""
    queues: int = 1
    mbit: int = 0
    aside: bool = False
    quirks: tuple[Quirk, ...] = ()


class RackFile(_Strict, frozen=True):
    """A whole rack. dut: the machine under test; ports by name."""

    name: str
    dut: str
    machines: dict[str, MachineFile]
    ports: dict[str, Port]


def named(rack: str) -> Path:
    """The file of `--rack`: a shipped rack's name, or a path. Raises RackFileError."""
    shipped = RACKS / f"{rack}.yaml"
    if _NAME.match(rack) and shipped.exists():
        return shipped
    if not Path(rack).is_file():
        names = ", ".join(sorted(path.stem for path in RACKS.glob("*.yaml")))
        raise RackFileError(f"there is no rack {rack!r}: name a file, or one of {names}")
    return Path(rack)


def load(path: Path) -> RackFile:
    """Read one rack file. Raises RackFileError, which names the file, the place and the mend."""
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > _MAX_FILE:
            raise RackFileError(f"{path}: over {_MAX_FILE} bytes; that is not a rack file")
        return parsed(yaml.safe_load(text), str(path))
    except OSError as error:
        raise RackFileError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise RackFileError(f"{path}: not UTF-8 text") from None
    except (yaml.YAMLError, RecursionError) as error:
        raise RackFileError(f"{path}: not YAML: {error}") from None


def parsed(content: Any, path: str) -> RackFile:
    """The content of a rack file. Raises RackFileError."""
    try:
        rack = msgspec.convert(content, RackFile)
    except msgspec.ValidationError as error:
        raise RackFileError(f"{path}: {error}; hwtests/racks/example-ssh.yaml has every key") from None
    problem = _problem(rack)
    if problem:
        raise RackFileError(f"{path}: {problem}")
    return rack


def _problem(rack: RackFile) -> str:
    """The first thing that is wrong with it, "" when nothing is."""
    if rack.dut not in rack.machines:
        return f"dut: there is no machine {rack.dut!r}; machines are {', '.join(sorted(rack.machines))}"
    if not rack.ports:
        return "ports: at least one port has to be named"
    for name, machine in rack.machines.items():
        if not machine.transport:
            return f"machines.{name}: it needs exactly one of {', '.join(TRANSPORTS)}"
        if machine.transport in ("ssh", "labgrid", "local") and not machine.netc and name == rack.dut:
            return f"machines.{name}.netc: say where `netc` is on it, as /opt/netc/.venv/bin/netc"
    for name, port in rack.ports.items():
        wrong = _port_problem(rack, name, port)
        if wrong:
            return f"ports.{name}{wrong}"
    return ""


def _port_problem(rack: RackFile, name: str, port: Port) -> str:
    transport = rack.machines[rack.dut].transport
    if not _NAME.match(name):
        return ": a name of small letters, digits and '-' is needed"
    if transport == "virtual":
        return "" if port.nic else ".nic: say which NIC the virtual machine gets: igb, virtio, vmxnet3, e1000e, netdevsim"
    if transport == "lab":
        return "" if not port.peer else ".peer: a lab makes the far end itself; leave it out"
    if port.peer is None:
        return ".peer: say what is at the far end: machine and device"
    if not port.address or not port.far_address:
        return ".address, .far_address: the addresses of both ends are needed"
    for where, end in ((".device", Far(rack.dut, port.device)), (".peer", port.peer), (".generator", port.generator)):
        wrong = _end_problem(rack, end) if end else ""
        if wrong:
            return where + wrong
    return ""


def _end_problem(rack: RackFile, end: Far) -> str:
    machine = rack.machines.get(end.machine)
    if machine is None:
        return f".machine: there is no machine {end.machine!r}"
    device = end.device
    if sum(map(bool, (device.pci, device.mac, device.name))) != 1:
        return ": exactly one of pci, mac and name is needed"
    if device.name and machine.transport != "local":
        return ".name: names of devices change, and the wrong one would be torn down: give pci ('0000:03:00.0') or mac"
    if device.pci and not _PCI.match(device.pci):
        return f".pci: {device.pci!r} is no PCI address, as 0000:03:00.0"
    if device.mac and not _MAC.match(device.mac):
        return f".mac: {device.mac!r} is no MAC address, as 02:00:5e:00:53:01"
    return ""


def from_environment(environ: dict[str, str]) -> RackFile | None:
    """A rack of one NIC by the names of the kernel's own driver tests (tools/testing/selftests/drivers/net/README.rst); None without NETIF.

    NETIF, LOCAL_V4, REMOTE_V4, REMOTE_TYPE (netns or ssh), REMOTE_ARGS (the namespace, or USER@HOST), and NETC: where `netc` is here.
    Raises RackFileError.
    """
    if not environ.get("NETIF"):
        return None
    missing = [name for name in ("LOCAL_V4", "REMOTE_V4", "REMOTE_TYPE", "REMOTE_ARGS") if not environ.get(name)]
    if missing:
        raise RackFileError(f"NETIF is set, {', '.join(missing)} not: hwtests/README.md has the names")
    kind, where = environ["REMOTE_TYPE"], environ["REMOTE_ARGS"]
    if kind not in ("netns", "ssh"):
        raise RackFileError(f"REMOTE_TYPE={kind}: netns and ssh are known")
    user, _, host = where.rpartition("@")
    far: dict[str, Any] = {"local": {"netns": where}} if kind == "netns" else {"ssh": {"host": host, "user": user or "root"}}
    port = {"device": {"name": environ["NETIF"]}, "address": _with_prefix(environ["LOCAL_V4"]), "far_address": _with_prefix(environ["REMOTE_V4"]),
            "peer": {"machine": "remote", "device": {"name": BY_ADDRESS}}}  # fmt: skip
    content = {"name": f"netif-{environ['NETIF']}", "dut": "local", "ports": {"nic": port},
               "machines": {"local": {"local": {}, "netc": environ.get("NETC", "netc")}, "remote": far}}  # fmt: skip
    rack = msgspec.convert(content, RackFile)
    return rack


BY_ADDRESS = "(by address)"
"""In place of a device's name: the one that has the far address, as the kernel's own tests find it."""


def _with_prefix(address: str) -> str:
    return address if "/" in address else f"{address}/24"
