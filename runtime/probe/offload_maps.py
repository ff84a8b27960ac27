"""How large an array a NIC takes for a program in it: no query tells, so arrays are made in the NIC's memory and given back at once.

Drivers have limits of their own: netdevsim takes 2 elements (NSIM_BPF_MAX_KEYS), nfp says how many elements and bytes its firmware takes. Nothing is
attached and no packet sees it.
"""

from __future__ import annotations

import os

from runtime.backends import bpf
from runtime.probe.asking import Facts, refusal

_NAME = "netc_probe"
_VALUE_SIZES = tuple(16 << bits for bits in range(9))  # 16 bytes are one counter; 4 KiB are 256 in one element
_ELEMENTS = tuple(1 << bits for bits in range(11))  # 1 to 1024


def largest(ifindex: int, told: Facts) -> dict[str, int]:
    """The `offload_maps` of the profile: the largest of each kind of size that was taken, the value first. told: gets the evidence."""
    value_size, elements, words = 0, 0, ""
    for size in _VALUE_SIZES:
        words = _refused(ifindex, size, 1)
        if words:
            break
        value_size, elements = size, 1
    for count in _ELEMENTS[1:] if value_size else ():
        words = _refused(ifindex, value_size, count)
        if words:
            break
        elements = count
    told["offload-maps-tried"] = f"an array of {elements} times {value_size} bytes was made in the NIC, and given back" + (f"; a larger one: {words}" if words else "")
    return {"elements": elements, "value_size": value_size}


def _refused(ifindex: int, value_size: int, elements: int) -> str:
    """Why the NIC does not take such an array; "" where it did."""
    try:
        os.close(bpf.create_map("array", 4, value_size, elements, 0, _NAME, offload=ifindex))
    except OSError as error:
        return refusal(error)
    return ""
