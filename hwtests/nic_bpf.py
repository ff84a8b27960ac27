"""Runs on the machine under test, with its netc's Python: what a NIC that runs programs would do, and what somebody else does to it, by bpf(2).

    nic_bpf.py count PIN PLACE PACKETS BYTES    the counter at this place of the array in the NIC, as if the NIC had counted
    nic_bpf.py attach DEVICE                    somebody else's program in the NIC, put there by netlink; prints its id
    nic_bpf.py detach LINK                      a pinned link leaves its device, as `bpftool link detach` does
"""

from __future__ import annotations

import os
import struct
import sys

from runtime.backends import bpf, link, xdp_netlink

_PASS = bytes.fromhex("b7000000020000009500000000000000")  # r0 = XDP_PASS; exit
_COUNTER = 16  # bytes: packets, bytes


def count(pin: str, place: str, packets: str, octets: str) -> None:
    fd = bpf.get_pinned(pin)
    size = bpf.map_info(fd).value_size
    element, at = divmod(int(place) * _COUNTER, size)
    key = struct.pack("=I", element)
    value = bytearray(bpf.map_lookup(fd, key, size) or bytes(size))
    struct.pack_into("=QQ", value, at, int(packets), int(octets))
    bpf.map_update(fd, key, bytes(value))


def attach(device: str) -> None:
    found = link.get(device)
    program = bpf.load_program("xdp", _PASS, {}, "others", offload=found.ifindex)
    xdp_netlink.attach(found.ifindex, program, "offload")
    print(bpf.prog_info(program).id)


def detach(pin: str) -> None:
    fd = bpf.get_pinned(pin)
    bpf.link_detach(fd)
    os.close(fd)


if __name__ == "__main__":
    {"count": count, "attach": attach, "detach": detach}[sys.argv[1]](*sys.argv[2:])
