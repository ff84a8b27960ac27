"""RSS contexts of a device: which there are, made and deleted. By ethtool netlink where the kernel has the messages, else by ioctl.

RSS_GET as a dump lists them (kernel 6.12), RSS_CREATE_ACT and RSS_DELETE_ACT come with 6.17 and answer in words; before, ETHTOOL_SRSSH makes and
deletes them, and those below 128 are looked for one by one. Sources: Documentation/networking/ethtool-netlink.rst, net/ethtool/rss.c, ioctl.c.
"""

from __future__ import annotations

import errno
import struct

from runtime.backends import ethtool_ioctl
from runtime.backends.netlink import NLM_F_DUMP, Generic, NetlinkError, attr, attributes, nest, number

_RSS_GET, _RSS_CREATE, _RSS_DELETE = 38, 49, 50  # ETHTOOL_MSG_RSS_*
_HEADER, _CONTEXT, _INDIR, _HKEY = 1, 2, 4, 5  # ETHTOOL_A_RSS_*
_DEV_NAME = 2  # ETHTOOL_A_HEADER_DEV_NAME
_LOOKED_FOR = 128
_ABSENT = (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP)  # what drivers say of a context that is not there
_NO_KEYS = (errno.EOPNOTSUPP, errno.EINVAL)  # what the kernel says of a key for a context, where all contexts share the device's


def numbers(device: str) -> list[int]:
    """The contexts besides the device's own, which is 0. Raises OSError."""
    with Generic("ethtool") as ethtool:
        try:
            answers = [attributes(answer) for answer in ethtool.request(_RSS_GET, _header(device), NLM_F_DUMP)]
        except NetlinkError as error:
            if error.errno != errno.EOPNOTSUPP:
                raise
            answers = []
            dumps = False
        else:
            dumps = True
    if dumps:
        return sorted(number(found[_CONTEXT]) for found in answers if number(found.get(_CONTEXT, b"\0")))
    return [context for context in range(1, _LOOKED_FOR) if is_there(device, context)]


def is_there(device: str, context: int) -> bool:
    """Raises OSError where the device cannot be asked at all."""
    try:
        ethtool_ioctl.rss(device, context)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        return False
    return True


def create(device: str, table: tuple[int, ...], key: bytes) -> int:
    """A new context with this table, and this key where contexts have keys of their own; its number. Raises OSError with the device's words."""
    with Generic("ethtool") as ethtool:
        by_netlink = _RSS_CREATE in ethtool.family.commands
    make = _create_netlink if by_netlink else _create_ioctl
    if key:
        try:
            return make(device, table, key)
        except OSError as error:
            if error.errno not in _NO_KEYS:
                raise
    return make(device, table, b"")


def delete(device: str, context: int) -> None:
    """Raises OSError (EBUSY: a flow rule names it)."""
    with Generic("ethtool") as ethtool:
        if _RSS_DELETE in ethtool.family.commands:
            ethtool.request(_RSS_DELETE, _header(device) + attr(_CONTEXT, context))
            return
    ethtool_ioctl.delete_context(device, context)


def _create_netlink(device: str, table: tuple[int, ...], key: bytes) -> int:
    payload = _header(device) + attr(_INDIR, struct.pack(f"={len(table)}I", *table)) + (attr(_HKEY, key) if key else b"")
    with Generic("ethtool") as ethtool:
        return number(attributes(ethtool.request(_RSS_CREATE, payload)[0])[_CONTEXT])


def _create_ioctl(device: str, table: tuple[int, ...], key: bytes) -> int:
    return ethtool_ioctl.set_rss(device, table, key, ethtool_ioctl.NEW_CONTEXT)


def _header(device: str) -> bytes:
    return nest(_HEADER, attr(_DEV_NAME, device))
