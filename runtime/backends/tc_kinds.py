"""Which kinds of qdiscs and classifiers this kernel has, asked with no option at all: only a kind that it lacks is ENOENT.

Asked on the loopback device of a network namespace of its own, which ends with the thread that made it: nothing is left, whatever ends the process.
Asking makes the kernel load the module (request_module, net/sched/sch_api.c, cls_api.c), so kinds that nobody uses are looked up in the kernel's
lists of modules first. Raw netlink: pyroute2 drops kinds that it does not know.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from runtime.backends.netlink import NETLINK_ROUTE, NetlinkError, Socket, attr

_CLONE_NEWNET = 0x40000000
_CREATE = 0x600  # NLM_F_CREATE | NLM_F_EXCL
_NEWQDISC, _DELQDISC, _NEWTFILTER = 36, 37, 44
_LOOPBACK = 1  # the first device of every namespace
_ROOT, _CLSACT, _AT_INGRESS = 0xFFFFFFFF, 0xFFFFFFF1, 0xFFFFFFF2
_TCA_KIND = 1
_ALL = 0x0300  # htons(ETH_P_ALL)
T = TypeVar("T")


def in_a_namespace_of_its_own(work: Callable[[], T]) -> T:
    """Run `work` in a new, empty network namespace. Raises OSError (EPERM: it takes CAP_SYS_ADMIN), and what `work` raises."""
    try:
        with ThreadPoolExecutor(1) as pool:  # unshare(2) changes one thread; that thread ends with the function and takes the namespace along
            return pool.submit(_apart, work).result()
    except RuntimeError as error:
        raise OSError(errno.EAGAIN, str(error)) from None


def qdiscs(kinds: Sequence[str]) -> dict[str, str]:
    """kind -> "" where the kernel has it, else its words. Raises OSError."""
    return in_a_namespace_of_its_own(lambda: {kind: _ask_qdisc(kind) for kind in kinds})


def classifiers(kinds: Sequence[str]) -> dict[str, str]:
    """As `qdiscs`, of classifiers. Raises OSError."""

    def ask() -> dict[str, str]:
        with Socket(NETLINK_ROUTE) as kernel:
            kernel.request(_NEWQDISC, _message(_CLSACT, 0xFFFF0000) + attr(_TCA_KIND, "clsact"), _CREATE)
        return {  # each with a priority of its own: two kinds cannot share one
            kind: _answer(_NEWTFILTER, _message(_AT_INGRESS, 0, priority << 16 | _ALL) + attr(_TCA_KIND, kind)) for priority, kind in enumerate(kinds, 1)
        }

    return in_a_namespace_of_its_own(ask)


def listed_modules() -> frozenset[str]:
    """The modules that are built into this kernel or lie ready for it; empty where the lists are not there (a container)."""
    found: set[str] = set()
    for name in ("modules.builtin", "modules.dep"):
        try:
            text = Path("/lib/modules", os.uname().release, name).read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue
        found |= {line.partition(":")[0].rpartition("/")[2].partition(".ko")[0].replace("-", "_") for line in text.splitlines()}
    return frozenset(found)


def _apart(work: Callable[[], T]) -> T:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(_CLONE_NEWNET) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"make a network namespace to try it in: {os.strerror(number)}")
    return work()


def _ask_qdisc(kind: str) -> str:
    parent = _CLSACT if kind in ("clsact", "ingress") else _ROOT
    words = _answer(_NEWQDISC, _message(parent, 0xFFFF0000 if parent == _CLSACT else 1 << 16) + attr(_TCA_KIND, kind))
    if not words:
        _answer(_DELQDISC, _message(parent, 0), 0)
    return words


def _answer(command: int, payload: bytes, flags: int = _CREATE) -> str:
    """The kernel's words where it does not have the kind; "" where it has, also when it wants options or another device."""
    try:
        with Socket(NETLINK_ROUTE) as kernel:
            kernel.request(command, payload, flags)
    except NetlinkError as error:
        return error.words if error.errno == errno.ENOENT else ""
    return ""


def _message(parent: int, handle: int, info: int = 0) -> bytes:
    return struct.pack("=BxxxiIII", 0, _LOOPBACK, handle, parent, info)  # struct tcmsg
