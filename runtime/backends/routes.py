"""Addresses and routes of this network namespace, and which devices stand under which: by what a host is reached. Reads only.

Source: include/uapi/linux/{if_addr,if_link,rtnetlink}.h.
"""

from __future__ import annotations

import errno
import socket
import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address
from typing import NamedTuple

from runtime.backends.netlink import NETLINK_ROUTE, NLM_F_DUMP, NetlinkError, Socket, attr, attributes, number, text

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface
_RTM_GETLINK, _RTM_GETADDR, _RTM_GETROUTE = 18, 22, 26
_IFA_ADDRESS, _IFA_LOCAL = 1, 2
_RTA_DST, _RTA_SRC, _RTA_OIF = 1, 2, 4
_IFLA_IFNAME, _IFLA_LINK, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_LINK_NETNSID = 3, 5, 10, 18, 37
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_VLAN_ID = 1, 2, 1
_ON_ANOTHER = ("vlan", "macvlan", "ipvlan", "macsec")  # whose packets are those of the device under them, in other clothes at most
TUNNELS = ("wireguard", "tun", "vxlan", "geneve", "gre", "gretap", "ip6gre", "ip6gretap", "erspan", "ipip", "sit", "ip6tnl", "vti", "vti6", "xfrm", "ppp")
_NO_ROUTE = (errno.ENETUNREACH, errno.EHOSTUNREACH, errno.ENETDOWN, errno.EINVAL, errno.EACCES)


class Device(NamedTuple):
    """One device. under: the index of what it stands on (0: nothing that is here); port_of: the index of its bridge or bond; vlan: its tag."""

    ifindex: int
    name: str
    kind: str
    under: int
    port_of: int
    vlan: int


class Way(NamedTuple):
    """A device by which packets can come in, and the tag that they then have there (0: none)."""

    device: str
    vlan: int


def local_addresses() -> dict[Interface, int]:
    """Every address of this namespace, with its prefix, and the index of its device."""
    found: dict[Interface, int] = {}
    with Socket(NETLINK_ROUTE) as kernel:
        for answer in kernel.request(_RTM_GETADDR, struct.pack("=BBBBI", 0, 0, 0, 0, 0), NLM_F_DUMP):
            family, prefix, _, _, ifindex = struct.unpack_from("=BBBBI", answer)
            said = attributes(answer[8:])
            raw = said.get(_IFA_LOCAL) or said.get(_IFA_ADDRESS)
            if raw and family in (socket.AF_INET, socket.AF_INET6):
                found[IPv4Interface((raw, prefix)) if family == socket.AF_INET else IPv6Interface((raw, prefix))] = ifindex
    return found


def device_to(there: Address, here: Address) -> int:
    """The index of the device that packets from `here` to `there` leave by; 0: there is no route."""
    family = socket.AF_INET if there.version == 4 else socket.AF_INET6
    head = struct.pack("=BBBBBBBBI", family, there.max_prefixlen, here.max_prefixlen, 0, 0, 0, 0, 0, 0)
    try:
        with Socket(NETLINK_ROUTE) as kernel:
            answer = kernel.request(_RTM_GETROUTE, head + attr(_RTA_DST, there.packed) + attr(_RTA_SRC, here.packed))[0]
    except NetlinkError as error:
        if error.errno in _NO_ROUTE:
            return 0
        raise
    return number(attributes(answer[12:]).get(_RTA_OIF, b"\0"))


def devices() -> dict[int, Device]:
    """Every device of this namespace by its index."""
    found = {}
    with Socket(NETLINK_ROUTE) as kernel:
        for answer in kernel.request(_RTM_GETLINK, struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0), NLM_F_DUMP):
            ifindex = struct.unpack_from("=i", answer, 4)[0]
            said = attributes(answer[16:])
            info = attributes(said.get(_IFLA_LINKINFO, b""))
            kind, data = text(info.get(_IFLA_INFO_KIND, b"")), attributes(info.get(_IFLA_INFO_DATA, b""))
            under = number(said.get(_IFLA_LINK, b"\0")) if kind in _ON_ANOTHER and _IFLA_LINK_NETNSID not in said else 0
            vlan = number(data.get(_IFLA_VLAN_ID, b"\0")) if kind == "vlan" else 0
            found[ifindex] = Device(ifindex, text(said[_IFLA_IFNAME]), kind, under, number(said.get(_IFLA_MASTER, b"\0")), vlan)
    return found


def ways_in(ifindex: int, known: dict[int, Device]) -> list[Way]:
    """The device itself, and every device under it (of a VLAN its parent, of a bridge its ports), by which its packets can come in."""
    found: list[Way] = []
    waiting, seen = [(ifindex, 0)], set()
    while waiting:
        index, vlan = waiting.pop()
        device = known.get(index)
        if device is None or index in seen:
            continue
        seen.add(index)
        found.append(Way(device.name, vlan))
        below: Iterable[int] = (device.under, *(each.ifindex for each in known.values() if each.port_of == index and each.port_of))
        waiting += [(each, device.vlan or vlan) for each in below if each]
    return found


def plain(text: str) -> Address:
    """An address without its zone; one of IPv4 that is written as IPv6 (::ffff:192.0.2.1) is one of IPv4. Raises ValueError."""
    found = ip_address(text.partition("%")[0])
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
