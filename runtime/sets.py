"""The members of a policy's dynamic sets, as the kernel has them now."""

from __future__ import annotations

import struct
import time

from compiler.bundle import Bundle, DynamicSet
from runtime.backends import bpf
from runtime.context import Context
from runtime.steps import StepError, xdp_pins

_EXPIRY = struct.Struct("=Q")  # ns of CLOCK_MONOTONIC, 0: never


def size(context: Context, bundle: Bundle, item: DynamicSet, generation: int) -> int:
    """How many members are live: one that has timed out is still in the map until its place is needed. Raises StepError."""
    kept = next((m for m in bundle.maps if m.id == item.map), None)
    if kept is None:
        raise StepError(f"set {item.name}", f"the bundle has no map {item.map}", "compile the policy again")
    now = time.monotonic_ns()
    try:
        with xdp_pins.opened(xdp_pins.map_path(context, kept, generation)) as descriptor:
            values = [value for _, value in bpf.map_items(descriptor, kept.key_size, kept.value_size)]
    except bpf.BpfError as error:
        raise StepError(f"read set {item.name}", str(error), "apply the policy again") from None
    return sum(expiry == 0 or expiry > now for (expiry,) in map(_EXPIRY.unpack_from, values))
