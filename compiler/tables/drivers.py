"""What is known of network drivers beyond what they say of themselves: constraints and quirks, each with its source. Data: drivers.json.

Hints only. They are printed beside a refusal, warned of at compile time, and they choose the order of steps; the kernel's answer decides. Both
halves read them, with the standard library alone. Kernel versions are major.minor: `since` is the first that has it, `until` the first that does
not any more; "" leaves an end open, and so does a kernel that is not known. A quirk that a kernel may have mended costs a step too many, never
one too few.
"""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

QUIRKS = {
    "rss-lost-at-attach": "an RSS table or key that was set before an XDP program goes on or off is gone afterwards",
    "rss-reset-by-channels": "a change of channels puts the RSS table back to its default",
    "rss-reset-by-ring": "a change of ring sizes puts the RSS table back to its default",
    "rss-default-in-blocks": "the driver's own RSS table has the entries of each queue together, where the kernel's has every queue in turn",
    "rss-reset-by-link": "the RSS table is put back to its default when the link goes down and up",
    "rss-readback-lies": "what the driver shows of its RSS table is not always what the device does: only traffic proves it",
    "hash-needs-rxhash": "packet fields of the hash take effect only with the feature rxhash on",
    "channels-before-xdp": "channels cannot be changed while an XDP program is attached",
    "channels-reset-by-xdp": "attaching XDP changes how many channels are in use or may be",
    "xdp-queues-shown": "queues that the driver adds for XDP are shown as channels: how many the stack sends by is how many were asked for",
    "carrier-lost-at-attach": "the link goes down for a moment when an XDP program goes on or off",
    "xdp-driver-mode-not-executed": "a native XDP program can be attached and is never run",
}
GROUPS = ("xdp", "channels", "ring", "rss", "hash", "ntuple", "coalesce", "pause", "feature", "tc")
CONDITIONS = ("mtu", "lro", "half-channels", "native", "")


class Constraint(NamedTuple):
    """One thing that is known of some drivers.

    explains: the groups (GROUPS) of a refused step that it can be the reason of. quirks: names of QUIRKS. mtu: in bytes, with 4 KiB pages, the largest
    that native XDP takes (0: it is not about the MTU); frags: no longer so for programs aware of multi-buffer frames. when: what of a profile or
    policy makes it worth a warning beforehand (CONDITIONS; "": nothing). mend: what a person can do, DEV for the device. source: where it is known from.
    """

    name: str
    drivers: tuple[str, ...]
    message: str
    mend: str
    source: str
    explains: tuple[str, ...] = ()
    quirks: tuple[str, ...] = ()
    mtu: int = 0
    frags: bool = False
    when: str = ""
    since: str = ""
    until: str = ""

    def holds(self, kernel: str) -> bool:
        """Whether a kernel release (6.12.117+deb12-amd64) can have it."""
        here = _version(kernel)
        return not here or ((not self.since or here >= _version(self.since)) and (not self.until or here < _version(self.until)))


@cache
def every() -> tuple[Constraint, ...]:
    """The whole table in its order."""
    return tuple(map(_constraint, json.loads(Path(__file__).with_name("drivers.json").read_text(encoding="utf-8"))))


def of(driver: str, kernel: str = "") -> tuple[Constraint, ...]:
    """What is known of a driver, by the name that `ethtool -i` prints, on this kernel; () for one that the table does not have."""
    return tuple(item for item in every() if driver in item.drivers and item.holds(kernel))


def quirks(driver: str, kernel: str = "") -> frozenset[str]:
    """The names (QUIRKS) of what steps on this driver have to be ordered by."""
    return frozenset(quirk for item in of(driver, kernel) for quirk in item.quirks)


def reasons(driver: str, kernel: str, group: str) -> tuple[Constraint, ...]:
    """What can be the reason that this driver refused a step of this group (GROUPS)."""
    return tuple(item for item in of(driver, kernel) if group in item.explains)


def max_xdp_mtu(driver: str, kernel: str = "", frags: bool = True) -> int:
    """The largest MTU in bytes with which this driver is known to take native XDP; 0: not known, or no limit below what the device has."""
    return min((item.mtu for item in of(driver, kernel) if item.mtu and not (frags and item.frags)), default=0)


def _constraint(entry: dict[str, Any]) -> Constraint:
    fields: dict[str, Any] = {key: tuple(value) if isinstance(value, list) else value for key, value in entry.items()}
    return Constraint(**fields)


def _version(release: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", release)[:2]))
