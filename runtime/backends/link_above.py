"""Devices of other network namespaces that stand on a device of this one: macvlan, ipvlan and their taps (containers).

Found in every namespace that this one has an id for; it has one for each that a device was moved to or that was looked at from here. A
namespace in which a device was made on ours by other means is not found. Source: include/uapi/linux/{if_link,net_namespace}.h. Reads only.
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass

from runtime.backends.netlink import NETLINK_ROUTE, NLM_F_DUMP, NetlinkError, Socket, attr, attributes, number, text

_RTM_GETLINK, _RTM_GETNSID = 18, 90
_IFLA_IFNAME, _IFLA_LINK, _IFLA_LINKINFO, _IFLA_LINK_NETNSID, _IFLA_TARGET_NETNSID = 3, 5, 18, 37, 46
_IFLA_INFO_KIND, _IFLA_INFO_DATA, _IFLA_MACVLAN_MODE = 1, 2, 1
_NSID, _FD = 1, 3
_MODES = {1: "private", 2: "vepa", 4: "bridge", 8: "passthru", 16: "source"}
_HIDDEN = (errno.EPERM, errno.EACCES, errno.EINVAL, errno.ENOENT)  # not ours to see, or gone meanwhile


@dataclass(frozen=True, slots=True)
class Above:
    """mode: of a macvlan or macvtap, else ""."""

    name: str
    kind: str
    mode: str


def in_other_namespaces(ifindex: int) -> list[Above]:
    """What stands on the device with this index, elsewhere. Raises NetlinkError."""
    with Socket(NETLINK_ROUTE) as kernel:
        here = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        try:
            return [above for nsid in _namespaces(kernel) for above in _found(kernel, nsid, here, ifindex)]
        finally:
            os.close(here)


def _namespaces(kernel: Socket) -> list[int]:
    answers = kernel.request(_RTM_GETNSID, struct.pack("=Bxxx", 0), NLM_F_DUMP)
    return [struct.unpack("=i", attributes(answer[4:])[_NSID])[0] for answer in answers]


def _found(kernel: Socket, nsid: int, here: int, ifindex: int) -> Iterator[Above]:
    try:
        payload = struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0) + attr(_IFLA_TARGET_NETNSID, struct.pack("=i", nsid))
        answers = kernel.request(_RTM_GETLINK, payload, NLM_F_DUMP)
        asked = struct.pack("=Bxxx", 0) + attr(_FD, here)
        ours = attributes(kernel.request(_RTM_GETNSID, asked)[0][4:])[_NSID]  # this namespace's own id, which the listing uses
    except NetlinkError as error:
        if error.errno in _HIDDEN:
            return
        raise
    for answer in answers:
        found = attributes(answer[16:])
        if found.get(_IFLA_LINK_NETNSID) == ours and number(found.get(_IFLA_LINK, b"\0")) == ifindex:
            info = attributes(found.get(_IFLA_LINKINFO, b""))
            kind, data = text(info.get(_IFLA_INFO_KIND, b"")), attributes(info.get(_IFLA_INFO_DATA, b""))
            mode = number(data.get(_IFLA_MACVLAN_MODE, b"\0")) if kind in ("macvlan", "macvtap") else 0
            yield Above(text(found[_IFLA_IFNAME]), kind, _MODES.get(mode, ""))
