"""What rtnetlink says of one device: index, MTU, driver kind, XDP program, and the other end of a veth.

Source: include/uapi/linux/{if_link,net_namespace}.h. Reads only.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from runtime.backends import netlink
from runtime.backends.netlink import NETLINK_ROUTE, NetlinkError, Socket, attr, attributes, number, text

_RTM_GETLINK, _RTM_GETNSID = 18, 90
_IFLA_ADDRESS, _IFLA_IFNAME, _IFLA_MTU, _IFLA_LINK, _IFLA_LINKINFO, _IFLA_LINK_NETNSID = 1, 3, 4, 5, 18, 37
_IFLA_XDP, _IFLA_NUM_TX_QUEUES, _IFLA_NUM_RX_QUEUES, _IFLA_CARRIER, _IFLA_MIN_MTU, _IFLA_MAX_MTU = 43, 31, 32, 33, 50, 51
_IFF_UP = 1
_IFLA_INFO_KIND, _IFLA_INFO_SLAVE_KIND, _IFLA_XDP_ATTACHED, _IFLA_XDP_PROG_ID = 1, 4, 2, 4
_XDP_SLOTS = {"native": 5, "generic": 6, "offload": 7}  # IFLA_XDP_DRV_PROG_ID, _SKB_PROG_ID, _HW_PROG_ID
_NETNSA_NSID, _NETNSA_FD = 1, 3
_ATTACHED = {0: "none", 1: "native", 2: "generic", 3: "offload", 4: "several"}


@dataclass(frozen=True, slots=True)
class Link:
    """mtu in bytes; kind as `ip -d link` says it ("" for hardware); peer: the ifindex at the other end (0: none).

    peer_netns: -1 when the peer is in the same namespace, else this namespace's id of the peer's. port_of: the kind of device that this
    one is a port of (bridge, bond, vrf, openvswitch, …), "" for none. address: the link-layer address.
    xdp: none, native, generic, offload, or several; xdp_program: its id, of several the host's; xdp_programs: each by its mode.
    up: it was taken up (IFF_UP); carrier: the link carries packets. min_mtu, max_mtu: in bytes; 0: the driver names none.
    """

    ifindex: int
    name: str
    mtu: int
    kind: str
    xdp: str
    xdp_program: int
    tx_queues: int
    rx_queues: int
    peer: int
    peer_netns: int
    port_of: str = ""
    address: bytes = b""
    up: bool = False
    carrier: bool = False
    min_mtu: int = 0
    max_mtu: int = 0
    xdp_programs: Mapping[str, int] = field(default_factory=dict)

    def xdp_mode_of(self, program: int) -> str:
        """The mode in which this program runs here; "": it does not."""
        return next((mode for mode, number in self.xdp_programs.items() if number == program), "")


def get(device: str) -> Link:
    """Read one device of this namespace. Raises NetlinkError (ENODEV: there is no such device)."""
    payload = struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0) + attr(_IFLA_IFNAME, device)
    with Socket(NETLINK_ROUTE) as kernel:
        answer = kernel.request(_RTM_GETLINK, payload)[0]
    return _decode(answer)


def every() -> list[Link]:
    """Every device of this namespace. Raises NetlinkError."""
    with Socket(NETLINK_ROUTE) as kernel:
        return [_decode(answer) for answer in kernel.request(_RTM_GETLINK, struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0), netlink.NLM_F_DUMP)]


def name_of(ifindex: int) -> str:
    """The name of the device with this index, in this namespace. Raises NetlinkError (ENODEV)."""
    with Socket(NETLINK_ROUTE) as kernel:
        return _decode(kernel.request(_RTM_GETLINK, struct.pack("=BBHiII", 0, 0, 0, ifindex, 0, 0))[0]).name


def find_netns(netnsid: int) -> Path | None:
    """The file in /run/netns of the namespace that this one knows by `netnsid`; None when it is not named there."""
    try:
        names = sorted(os.listdir("/run/netns"))
    except OSError:
        return None
    return next((path for path in map(Path("/run/netns").joinpath, names) if _netnsid(path) == netnsid), None)


def _netnsid(path: Path) -> int:
    """This namespace's id for the namespace at `path`; -1 when there is none."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
    try:
        with Socket(NETLINK_ROUTE) as kernel:
            answer = kernel.request(_RTM_GETNSID, struct.pack("=Bxxx", 0) + attr(_NETNSA_FD, descriptor))[0]
        return int(struct.unpack("=i", attributes(answer[4:])[_NETNSA_NSID])[0])
    except NetlinkError:
        return -1
    finally:
        os.close(descriptor)


def _decode(answer: bytes) -> Link:
    ifindex, flags = struct.unpack_from("=iI", answer, 4)
    found = attributes(answer[16:])
    info = attributes(found.get(_IFLA_LINKINFO, b""))
    xdp = attributes(found.get(_IFLA_XDP, b""))
    netnsid = found.get(_IFLA_LINK_NETNSID)
    programs = {mode: number(xdp[kind]) for mode, kind in _XDP_SLOTS.items() if kind in xdp}
    return Link(
        ifindex=ifindex,
        name=text(found[_IFLA_IFNAME]),
        mtu=number(found[_IFLA_MTU]),
        kind=text(info.get(_IFLA_INFO_KIND, b"")),
        xdp=_ATTACHED.get(number(xdp.get(_IFLA_XDP_ATTACHED, b"\0")), "unknown"),
        xdp_program=number(xdp.get(_IFLA_XDP_PROG_ID, b"\0")) or next(iter(programs.values()), 0),
        xdp_programs=programs,
        tx_queues=number(found.get(_IFLA_NUM_TX_QUEUES, b"\1")),
        rx_queues=number(found.get(_IFLA_NUM_RX_QUEUES, b"\1")),
        peer=number(found.get(_IFLA_LINK, b"\0")),
        peer_netns=netlink.number(netnsid) if netnsid is not None else -1,
        port_of=text(info.get(_IFLA_INFO_SLAVE_KIND, b"")),
        address=found.get(_IFLA_ADDRESS, b""),
        up=bool(flags & _IFF_UP),
        carrier=number(found.get(_IFLA_CARRIER, b"\0")) == 1,
        min_mtu=number(found.get(_IFLA_MIN_MTU, b"\0")),
        max_mtu=number(found.get(_IFLA_MAX_MTU, b"\0")),
    )
