"""What a reset of a port or of its queues takes with it, and what comes back after it: the RSS table and key, and the carrier.

Drivers stop and start a device for an XDP program that goes on or off, for channels and for rings. Some forget their RSS table over that and say so
(vmxnet3, igb); virtio_net goes on showing a table that the device no longer uses, so there it is written again whatever it shows. A port without
carrier loses what arrives: it is waited for. Which drivers: compiler/tables/drivers.json.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress

from compiler.tables import drivers
from runtime.backends import ethtool_ioctl, link
from runtime.backends.ethtool_ioctl import Rss

CARRIER_PATIENCE = 10.0  # seconds; igb takes about 2, a port that negotiates a speed up to 5
_PAUSE = 0.02


def quirks_of(device: str) -> frozenset[str]:
    """What is known of this device's driver on this kernel (compiler.tables.drivers.QUIRKS)."""
    from runtime import disruption

    return drivers.quirks(disruption.driver_of(device), os.uname().release)


@contextmanager
def outlived(device: str, same_queues: bool = False) -> Iterator[list[str]]:
    """Around a change that may reset the device. Gives a list that is filled with what could not be had back, in words.

    same_queues: nobody asked for more or fewer of them: what a driver adds for XDP (virtio_net) receives nothing, as before.
    """
    quirks, before, up = quirks_of(device), _rss(device), carrier(device)
    default = before is not None and is_default(device, before.table)
    rings = ethtool_ioctl.receive_rings(device) if before is not None else 0
    lost: list[str] = []
    try:
        yield lost
    finally:
        if before is not None:
            with suppress(OSError):  # a device that is gone meanwhile has nothing to be given back
                if same_queues and ethtool_ioctl.receive_rings(device) != rings:
                    default = is_default(device, before.table)  # for the queues that there are now
                lost += _give_back(device, before, default, "rss-lost-at-attach" in quirks)
        if up and not await_carrier(device):
            lost.append(f"{device} has no carrier again after {CARRIER_PATIENCE:.0f} s")


def make_room(device: str, channels: object, contexts: Iterable[int], room: dict[int, tuple[int, ...]]) -> None:
    """Before the channels become fewer: tables that name queues which go are changed, for the kernel refuses the change else.

    contexts: whose tables netc may change; 0 is the device's own, which is given back to the driver. room: what the tables were, for `take_room`.
    Raises Refusal. Source: ethtool_check_max_channel in net/ethtool/common.c.
    """
    from runtime.knobs import steering

    left = min((int(str(count)) for count in (channels if isinstance(channels, list) else [channels])), default=0)
    for context in contexts:
        before = _rss(device, context)
        if before is not None and 0 < left <= max(before.table):
            room.setdefault(context, before.table)
            size = len(before.table)
            steering.put_table(device, tuple(entry % left for entry in range(size)) if context else steering.default_table(device, size), context)


def take_room(device: str, room: Mapping[int, tuple[int, ...]]) -> None:
    """The tables as they were. Raises Refusal."""
    from runtime.knobs.steering import put_table

    for context, table in room.items():
        put_table(device, table, context)


def carrier(device: str) -> bool:
    """Does the link carry? False where there is no such device."""
    try:
        return link.get(device).carrier
    except OSError:
        return False


def await_carrier(device: str, patience: float = CARRIER_PATIENCE) -> bool:
    """Until the device has its carrier, at most so many seconds; whether it has. A device that is gone or taken down is not waited for."""
    end = time.monotonic() + patience
    while True:
        try:
            now = link.get(device)
        except OSError:
            return True
        if now.carrier or not now.up:
            return True
        if time.monotonic() >= end:
            return False
        time.sleep(_PAUSE)


def _rss(device: str, context: int = 0) -> Rss | None:
    """The table and key; None where the device has none that could be set."""
    try:
        found = ethtool_ioctl.rss(device, context)
    except OSError:
        return None
    return found if len(found.table) > 1 else None


def is_default(device: str, table: tuple[int, ...]) -> bool:
    """Is it the driver's own for the queues in use? The driver makes that one anew when their number changes."""
    from runtime.knobs.steering import default_table

    in_turn = default_table(device, len(table))
    if table == in_turn or not in_turn or "rss-default-in-blocks" not in quirks_of(device):
        return table == in_turn
    return table == tuple(entry * (max(in_turn) + 1) // len(table) for entry in range(len(table)))


def _give_back(device: str, before: Rss, default: bool, always: bool) -> list[str]:
    """Write the table and key that were there, where they are not there any more, or where the device cannot be believed. Raises OSError."""
    now = ethtool_ioctl.rss(device)
    if len(now.table) != len(before.table):
        return [f"the RSS table of {device} has {len(now.table)} entries now instead of {len(before.table)}: it is the driver's own"]
    if always or now.key != before.key:
        _put(device, before, default, key=before.key)
    elif now.table != before.table and not default:
        _put(device, before, default)
    elif default and now.table != before.table and not is_default(device, now.table):
        ethtool_ioctl.reset_rss_table(device)
    return []


def _put(device: str, before: Rss, default: bool, key: bytes = b"") -> None:
    """A default table is given back to the driver: one that is written stays as it is when the queues change."""
    queues = ethtool_ioctl.receive_rings(device)
    fits = max(before.table) < queues
    if key:
        ethtool_ioctl.set_rss(device, None if default or not fits else before.table, key)
    elif fits and not default:
        ethtool_ioctl.set_rss(device, before.table)
    if default:
        ethtool_ioctl.reset_rss_table(device)
