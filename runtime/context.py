"""Where netc works on this host: its directories, its bpffs, the devices that a policy's nics are bound to."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class Device(NamedTuple):
    """A nic of the policy bound to a device of the network namespace that this process is in."""

    nic: str
    name: str
    ifindex: int


class Context(NamedTuple):
    """state: directory of the journal, history and current bundle. bpffs: netc's own directory in a bpf file system (0700).
    trial: seconds that a change has to be confirmed in, 0.0 where it need not be (runtime.trial).

    netns: "" for the host, else the lab's name; sysfs paths are reached through `runtime.sysfs`, never through /sys.
    take_over: what somebody else put where the policy goes is kept and replaced (steps/foreign_*.py).
    """

    state: Path
    bpffs: Path
    devices: tuple[Device, ...] = ()
    netns: str = ""
    trial: float = 0.0
    take_over: bool = False

    def device(self, nic: str) -> Device:
        """The device bound to `nic`. Raises KeyError."""
        for device in self.devices:
            if device.nic == nic:
                return device
        raise KeyError(nic)
