"""What a lab looks like: names, addresses, where it keeps its files. Pure: nothing here touches the system.

    netc-NAME-wan            netc-NAME-dut                      netc-NAME-lan
    wan0p 192.0.2.2/24  ──── wan0 192.0.2.1/24
          2001:db8::2/64          2001:db8::1/64
                             lan0 198.51.100.1/25  ────────────── lan0p 198.51.100.2/25
                                  2001:db8:2::1/64                      2001:db8:2::2/64

The device under test routes between both sides. Behind `wan` lies the whole internet: its peer is the default gateway, and answers
for nobody but itself. On `lan`, the hosts 3 to 20 exist but are silent: they take packets and say nothing.
All addresses are documentation addresses (RFC 5737, RFC 3849).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from runtime.usage import UsageError

DEFAULT_NAME = "lab"
DEFAULT_QUEUES = 8
MAX_QUEUES = 64
DIRECTORY = Path("/run/netc/lab")
PREFIX = "netc-"
DUT = "dut"
_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,31}\Z")


class LabError(Exception):
    """A lab that cannot be made, found or used. The text says what to do."""


class WrongNameError(LabError, UsageError):
    """A name on the command line that no lab, or no side of one, can have."""


@dataclass(frozen=True, slots=True)
class Side:
    """One cable of the lab: the device in the dut, its peer, and both ends' addresses (`address/prefix length`)."""

    name: str
    ifindex: int
    device: str
    peer: str
    mac: str
    peer_mac: str
    addresses: tuple[str, ...]
    peer_addresses: tuple[str, ...]
    silent: tuple[str, ...] = ()


_SILENT = range(3, 21)
WAN = Side("wan", 11, "wan0", "wan0p", "02:00:00:00:01:01", "02:00:00:00:01:02", ("192.0.2.1/24", "2001:db8::1/64"),
           ("192.0.2.2/24", "2001:db8::2/64"))  # fmt: skip
LAN = Side("lan", 12, "lan0", "lan0p", "02:00:00:00:02:01", "02:00:00:00:02:02", ("198.51.100.1/25", "2001:db8:2::1/64"),
           ("198.51.100.2/25", "2001:db8:2::2/64"),
           tuple(f"{network}{host}" for network in ("198.51.100.", "2001:db8:2::") for host in _SILENT))  # fmt: skip
SIDES = (WAN, LAN)
GATEWAYS = ("192.0.2.2", "2001:db8::2")


@dataclass(frozen=True, slots=True)
class Names:
    """Everything that lab `name` calls its own."""

    name: str

    @property
    def directory(self) -> Path:
        return DIRECTORY / self.name

    @property
    def record(self) -> Path:
        """What `up` made, written before it is made: `down` removes that and nothing else."""
        return self.directory / "lab.json"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def bpffs(self) -> Path:
        return self.directory / "bpf"

    def netns(self, role: str) -> str:
        """The namespace of `dut`, `wan` or `lan`."""
        return f"{PREFIX}{self.name}-{role}"

    @property
    def namespaces(self) -> tuple[str, ...]:
        return (self.netns(DUT), *(self.netns(side.name) for side in SIDES))


def names(name: str) -> Names:
    """Raises LabError for a name that a path or a namespace cannot carry."""
    if not _NAME.match(name):
        raise WrongNameError(f"{name!r} is no name for a lab: use up to 32 of a-z, 0-9 and '-', a letter or digit first")
    return Names(name)


def side(name: str) -> Side:
    """The side called `name`, wan or lan; also by its device. Raises LabError."""
    for each in SIDES:
        if name in (each.name, each.device, each.peer):
            return each
    raise WrongNameError(f"the lab has no side {name!r}; it has {', '.join(each.name for each in SIDES)}")


def bind(nics: Sequence[str]) -> dict[str, str]:
    """Which lab device each nic of a policy gets: by its name where a side has it, else the next that is free. Raises LabError."""
    bound = {nic: each.device for nic in nics for each in SIDES if nic == each.name}
    free = [each.device for each in SIDES if each.device not in bound.values()]
    for nic in nics:
        if nic in bound:
            continue
        if not free:
            raise LabError(f"the lab has {len(SIDES)} devices, the policy {len(nics)} nics: there is none left for nic {nic}")
        bound[nic] = free.pop(0)
    return bound
