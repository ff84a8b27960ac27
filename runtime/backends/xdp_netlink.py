"""XDP programs that are attached without a bpf_link: put on a device and taken off by rtnetlink, as `ip link set dev X xdp` does.

netc's own programs are on links; this is how somebody else's goes away and comes back. Source: include/uapi/linux/if_link.h,
dev_xdp_attach in net/core/dev.c.
"""

from __future__ import annotations

import struct

from runtime.backends.netlink import NETLINK_ROUTE, Socket, attr, nest

MODES = {"generic": 2, "native": 4, "offload": 8}  # XDP_FLAGS_SKB_MODE, _DRV_MODE, _HW_MODE; the words of backends/link.py
_UPDATE_IF_NOEXIST, _REPLACE = 1, 16
_RTM_SETLINK, _IFLA_XDP, _XDP_FD, _XDP_FLAGS, _XDP_EXPECTED_FD = 19, 43, 1, 3, 8


def attach(ifindex: int, program: int, mode: str) -> None:
    """Put a program (its descriptor) on a device that has none. Raises NetlinkError (EBUSY: there is one)."""
    _set(ifindex, attr(_XDP_FD, program), attr(_XDP_FLAGS, MODES[mode] | _UPDATE_IF_NOEXIST))


def detach(ifindex: int, program: int, mode: str) -> None:
    """Take exactly this program (its descriptor) off. Raises NetlinkError: EEXIST, another is there; EBUSY, a bpf_link holds it."""
    nothing = struct.pack("=i", -1)
    _set(ifindex, attr(_XDP_FD, nothing), attr(_XDP_FLAGS, MODES[mode] | _REPLACE), attr(_XDP_EXPECTED_FD, program))


def _set(ifindex: int, *attributes: bytes) -> None:
    with Socket(NETLINK_ROUTE) as kernel:
        kernel.request(_RTM_SETLINK, struct.pack("=BBHiII", 0, 0, 0, ifindex, 0, 0) + nest(_IFLA_XDP, *attributes))
