"""What NICs counted that run a program of their own (`xdp offload`): beside what the host's programs count, in maps that are in the NICs' memory.

A packet that a NIC drops never gets to the host, so its rule's total is the sum of both, and so is what the chain has seen. The map of a NIC begins at
zero with the generation that brings it; what one counted that goes is kept in the ledger (runtime.retired), in the instant of the commit.
"""

from __future__ import annotations

import errno
import struct
from collections.abc import Collection, Iterator

from compiler.bundle import Bundle, Offload
from runtime.backends import bpf
from runtime.context import Context
from runtime.steps import StepError, xdp_pins

Counted = dict[str, tuple[int, int]]  # counter name → packets, bytes
_PAIR = struct.Struct("=QQ")


def read(context: Context, items: Collection[Offload]) -> Counted:
    """What these programs counted, by their counters' names, and each chain's `seen` with all of it. Raises StepError."""
    found: Counted = {}
    for item in items:
        for name, packets, octets in _places(context, item):
            for each in (name, f"{name.rpartition('.')[0]}.seen"):
                before = found.get(each, (0, 0))
                found[each] = (before[0] + packets, before[1] + octets)
    return found


def left(context: Context, old: Bundle, new: Bundle) -> list[Offload]:
    """The programs of `old` whose counters no program of `new` goes on with."""
    kept = {xdp_pins.nic_map_path(context, item) for item in new.offloads}
    return [item for item in old.offloads if xdp_pins.nic_map_path(context, item) not in kept]


def _places(context: Context, item: Offload) -> Iterator[tuple[str, int, int]]:
    """Name, packets, bytes of each counter, an element of the map read at once."""
    pairs = item.value_size // _PAIR.size
    try:
        with xdp_pins.opened(xdp_pins.nic_map_path(context, item)) as fd:
            for at in range(0, len(item.counters), pairs):
                value = bpf.map_lookup(fd, struct.pack("=I", at // pairs), item.value_size) or bytes(item.value_size)
                for name, (packets, octets) in zip(item.counters[at : at + pairs], _PAIR.iter_unpack(value), strict=False):
                    yield name, packets, octets
    except bpf.BpfError as error:
        if error.errno != errno.ENODEV:  # the NIC has gone, and what it counted with it: LoadNicStep's check tells
            raise StepError(f"read the counters of {item.name} in the NIC", str(error), "apply the policy again") from None
