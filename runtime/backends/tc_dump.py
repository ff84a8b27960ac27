"""A device's root qdisc with everything below it, as the messages that make it again: read, tried on a throw-away device, restored.

rtnetlink dumps what it takes: kind and options of a qdisc, a class or a filter go back as they came. What a dump lacks (a program of a filter,
an action's state, a size table, an estimator) or what reads back otherwise after a trial is refused in words, never lost.
Sources: net/sched/sch_api.c, cls_api.c; include/uapi/linux/{rtnetlink,pkt_cls,pkt_sched}.h.
"""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from runtime.backends import link, netlink
from runtime.backends.netlink import NETLINK_ROUTE, NetlinkError, Socket, attr, attributes, nest
from runtime.backends.tc import INGRESS, ROOT, words

Message = tuple[int, bytes]  # RTM_NEWQDISC, _NEWTCLASS or _NEWTFILTER, and its body with ifindex 0
QDISC, CLASS, FILTER = 36, 40, 44
_CREATE = 0x400 | 0x200  # NLM_F_CREATE | NLM_F_EXCL
_DELETE_QDISC, _NEWLINK = 37, 16
_TCMSG = struct.Struct("=BBHiIII")  # family, pads, ifindex, handle, parent, info
_KIND, _OPTIONS, _STATS2, _STAB, _CHAIN, _INGRESS_BLOCK, _EGRESS_BLOCK = 1, 2, 7, 8, 11, 13, 14
_KEPT = (_KIND, _OPTIONS, _CHAIN)
_RATE_EST = (2, 5)  # TCA_STATS_RATE_EST, _RATE_EST64 in TCA_STATS2: no dump says how the estimator was set up
_HAS_CLASSES = ("htb", "hfsc", "drr", "qfq")  # of the others the classes come with the qdisc
# Filters: attributes with actions (refused), that only count (left out), with flags that the kernel sets itself.
_ACTIONS = {"u32": (6, 7), "matchall": (2,), "flower": (3,), "fw": (2, 4), "basic": (3, 4)}
_COUNTS = {"u32": (9, 12), "matchall": (4, 5)}
_FLAGS = {"u32": 11, "matchall": 3, "flower": 22}
_SET_BY_KERNEL = 4 | 8  # TCA_CLS_FLAGS_IN_HW, _NOT_IN_HW
_U32_NODE = 0xFFFFF  # the bits that a hash table's handle does not have
_HTB_INIT = 2
_CLONE_NEWNET = 0x40000000


class UnsavableError(Exception):
    """Something that could not be put back as it is. The text names it."""


def save(ifindex: int) -> tuple[Message, ...]:
    """The root qdisc and all below it. Raises UnsavableError, NetlinkError; nothing is changed."""
    with Socket(NETLINK_ROUTE) as kernel:
        qdiscs = _dump(kernel, QDISC, ifindex)
        classes = _dump(kernel, CLASS, ifindex)
        return tuple(_below(kernel, ifindex, ROOT, qdiscs, classes))


def restore(ifindex: int, messages: Sequence[Message]) -> None:
    """Make it again on a device whose root is the kernel's default. Raises NetlinkError, with nothing of it left."""
    with Socket(NETLINK_ROUTE) as kernel:
        for at, (kind, body) in enumerate(messages):
            if _comes_by_itself(messages[at:]):
                continue
            try:
                kernel.request(kind, body[:4] + struct.pack("=i", ifindex) + _as_asked(kind, body)[8:], _CREATE)
            except NetlinkError:
                if at:
                    delete_root(ifindex)
                raise


def delete_root(ifindex: int) -> None:
    """The kernel's default comes in its place. Raises NetlinkError."""
    with Socket(NETLINK_ROUTE) as kernel:
        kernel.request(_DELETE_QDISC, _TCMSG.pack(0, 0, 0, ifindex, 0, ROOT, 0))


def hooked(ifindex: int) -> dict[str, list[str]]:
    """Filters at clsact or ingress by side: kind and priority of each. Raises NetlinkError."""
    found: dict[str, list[str]] = {}
    with Socket(NETLINK_ROUTE) as kernel:
        answers = kernel.request(QDISC + 2, _TCMSG.pack(0, 0, 0, ifindex, 0, 0, 0), netlink.NLM_F_DUMP)
        if not any(_TCMSG.unpack_from(body)[3] == ifindex and _TCMSG.unpack_from(body)[5] == INGRESS for body in answers):
            return {}
        for side, parent in (("ingress", 0xFFFFFFF2), ("egress", 0xFFFFFFF3)):  # TC_H_MIN_INGRESS, TC_H_MIN_EGRESS
            filters = kernel.request(FILTER + 2, _TCMSG.pack(0, 0, 0, ifindex, 0, parent, 0), netlink.NLM_F_DUMP)
            kinds = {f"{netlink.text(attributes(body[_TCMSG.size :]).get(_KIND, b'?'))} prio {_TCMSG.unpack_from(body)[6] >> 16}" for body in filters}
            if kinds:
                found[side] = sorted(kinds)
    return found


def prove(device: link.Link, messages: Sequence[Message]) -> None:
    """Restore it on a device of a namespace of its own, and read the same back. Raises UnsavableError; NetlinkError EPERM without CAP_SYS_ADMIN."""
    with ThreadPoolExecutor(1) as pool:  # unshare(2) changes one thread, which takes the namespace along when it ends
        pool.submit(_try, device, messages).result()


def describe(message: Message) -> str:
    """htb 1: at root"""
    kind, body = message
    _, _, _, _, handle, parent, info = _TCMSG.unpack_from(body)
    name = netlink.text(attributes(body[_TCMSG.size :]).get(_KIND, b"?"))
    what = {QDISC: "qdisc", CLASS: "class", FILTER: f"filter prio {info >> 16}"}[kind]
    return f"{name} {what} {words(handle)} at {words(parent)}"


def _below(kernel: Socket, ifindex: int, parent: int, qdiscs: Sequence[Message], classes: Sequence[Message]) -> Iterator[Message]:
    """The qdisc at `parent`, its filters and classes, and what is in these."""
    for message in qdiscs:
        handle, at, name = _place(message)
        if at != parent:
            continue
        yield message
        inner = [item for item in classes if _place(item)[0] >> 16 == handle >> 16] if handle and name in _HAS_CLASSES else []
        inner = _parents_first(inner, handle)
        yield from inner
        for owner in [handle, *(_place(item)[0] for item in inner)] if handle else []:
            yield from _dump(kernel, FILTER, ifindex, owner)
        parents = {_place(item)[1] for item in qdiscs} - {ROOT}
        for number in sorted(each for each in parents if handle and each >> 16 == handle >> 16):
            yield from _below(kernel, ifindex, number, qdiscs, classes)


def _parents_first(classes: Sequence[Message], handle: int) -> list[Message]:
    known, left, found = {ROOT, handle}, list(classes), []
    while left:
        ready = [item for item in left if _place(item)[1] in known]
        if not ready:
            raise UnsavableError(f"{describe(left[0])} has no parent in the dump")
        found += ready
        known |= {_place(item)[0] for item in ready}
        left = [item for item in left if item not in ready]
    return found


def _dump(kernel: Socket, kind: int, ifindex: int, parent: int = 0) -> list[Message]:
    """RTM_GET… is RTM_NEW… and two."""
    answers = kernel.request(kind + 2, _TCMSG.pack(0, 0, 0, ifindex, 0, parent, 0), netlink.NLM_F_DUMP)
    mine = [body for body in answers if _TCMSG.unpack_from(body)[3] == ifindex and not (kind == QDISC and _TCMSG.unpack_from(body)[5] == INGRESS)]
    return [(kind, _canonical(kind, body)) for body in mine if kind != FILTER or _TCMSG.unpack_from(body)[4]]


def _canonical(kind: int, body: bytes) -> bytes:
    """Without ifindex, counts and what else differs by itself. Raises UnsavableError."""
    family, _, _, _, handle, parent, info = _TCMSG.unpack_from(body)
    found = attributes(body[_TCMSG.size :])
    name = netlink.text(found.get(_KIND, b""))
    what = describe((kind, body))
    if _STAB in found:
        raise UnsavableError(f"{what} has a size table, which a dump does not hold")
    if _INGRESS_BLOCK in found or _EGRESS_BLOCK in found:
        raise UnsavableError(f"{what} shares its filters with other devices")
    if any(number in attributes(found.get(_STATS2, b"")) for number in _RATE_EST):
        raise UnsavableError(f"{what} has a rate estimator, whose set-up a dump does not hold")
    kept = b""
    for number, data in _raw(body[_TCMSG.size :]):
        if number & 0x3FFF in _KEPT:
            kept += attr(number, _options(kind, name, data, what) if number & 0x3FFF == _OPTIONS else data)
    return _TCMSG.pack(family, 0, 0, 0, handle, parent, info if kind == FILTER else 0) + kept


def _options(kind: int, name: str, data: bytes, what: str) -> bytes:
    if kind == QDISC and name == "htb":
        return b"".join(attr(number, value[:16] + bytes(4) if number & 0x3FFF == _HTB_INIT else value) for number, value in _raw(data))  # direct_pkts counts
    if kind != FILTER:
        return data
    if name not in _ACTIONS:
        raise UnsavableError(f"{what}: netc cannot put a filter of this kind back")
    if any(number in attributes(data) for number in _ACTIONS[name]):
        raise UnsavableError(f"{what} has actions, whose state a dump does not hold")
    kept = b""
    for number, value in _raw(data):
        if number & 0x3FFF in _COUNTS.get(name, ()):
            continue
        if number & 0x3FFF == _FLAGS.get(name):
            value = struct.pack("=I", struct.unpack("=I", value)[0] & ~_SET_BY_KERNEL)
        kept += attr(number, value)
    return kept


def _comes_by_itself(messages: Sequence[Message]) -> bool:
    """Is the first of these made with another: a qdisc without a handle, or u32's root table, which is the oldest and last of its priority?"""
    kind, body = messages[0]
    handle, parent, name = _place(messages[0])
    if kind == FILTER and name == "u32" and not handle & _U32_NODE:
        later = ((each, _place(each)) for each in messages[1:] if each[0] == FILTER)
        return not any(at[1] == parent and each[1][16:20] == body[16:20] and not at[0] & _U32_NODE for each, at in later)
    return kind == QDISC and handle == 0


def _as_asked(kind: int, body: bytes) -> bytes:
    """HTB says its whole version, and takes only the upper half of it (htb_init)."""
    if kind != QDISC or _place((kind, body))[2] != "htb":
        return body
    parts = dict(_raw(body[_TCMSG.size :]))
    options = b"".join(attr(number, struct.pack("=I", 3) + value[4:] if number & 0x3FFF == _HTB_INIT else value) for number, value in _raw(parts[_OPTIONS]))
    return body[: _TCMSG.size] + b"".join(attr(number, options if number == _OPTIONS else data) for number, data in parts.items())


def _place(message: Message) -> tuple[int, int, str]:
    """Handle, parent and kind."""
    body = message[1]
    return *struct.unpack_from("=II", body, 8), netlink.text(attributes(body[_TCMSG.size :]).get(_KIND, b""))


def _raw(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Attributes with the flags in their type: some kinds ask for NLA_F_NESTED."""
    at = 0
    while at + 4 <= len(data):
        length, kind = struct.unpack_from("=HH", data, at)
        if length < 4:
            return
        yield kind, data[at + 4 : at + length]
        at += (length + 3) & ~3


def _try(device: link.Link, messages: Sequence[Message]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        raise NetlinkError(ctypes.get_errno(), "a network namespace to try the restoration in")
    sizes = attr(4, device.mtu) + attr(13, 1000) + attr(31, device.tx_queues) + attr(32, device.rx_queues)
    with Socket(NETLINK_ROUTE) as kernel:
        kernel.request(_NEWLINK, struct.pack("=BBHiII", 0, 0, 0, 0, 0, 0) + attr(3, "trial") + sizes + nest(18, attr(1, "ifb")), _CREATE)
    index = link.get("trial").ifindex
    try:
        restore(index, messages)
        again = save(index)
    except NetlinkError as error:
        raise UnsavableError(f"the kernel does not take its own dump back: {error.words}") from None
    for was, now in zip(messages, again, strict=False):
        if was != now:
            raise UnsavableError(f"{describe(was)} reads back otherwise when it is put back")
    if len(again) != len(messages):
        raise UnsavableError(f"{len(messages)} qdiscs, classes and filters were {len(again)} when put back")
