"""BPF objects that somebody else made: who loaded a program and when, which link holds it, and who holds that link.

Finding an object by its id needs CAP_SYS_ADMIN (kernel/bpf/syscall.c); what is attached to a tcx hook is told with CAP_NET_ADMIN.
"""

from __future__ import annotations

import contextlib
import errno
import os
import pwd
import struct
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from runtime.backends import bpf
from runtime.backends import bpf_sys as sys

LINK_XDP, LINK_TCX = 6, 11  # enum bpf_link_type
_PROG_QUERY, _LINK_NEXT_ID = 16, 31
_MOST = 64  # programs of one hook (BPF_MPROG_MAX)
_PINS = Path("/sys/fs/bpf")
_MOST_PINS = 4096  # looked at while a link's pin is searched


class Origin(NamedTuple):
    """Where a program comes from. uid: who loaded it; loaded: Unix time in seconds."""

    id: int
    name: str
    uid: int
    loaded: float

    @property
    def words(self) -> str:
        """program 12 (xdp_dispatcher), loaded by root on 2026-11-21 03:00:10"""
        try:
            user = pwd.getpwuid(self.uid).pw_name
        except KeyError:
            user = f"uid {self.uid}"
        when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.loaded))
        return f"program {self.id} ({self.name or 'without a name'}), loaded by {user} on {when}"


class OtherLink(NamedTuple):
    """A bpf_link by its id, what it runs and where."""

    id: int
    type: int
    program: int
    ifindex: int


def origin(descriptor: int) -> Origin:
    """load_time (ns since boot) and created_by_uid stand at 40 and 48 of struct bpf_prog_info. Raises BpfError."""
    info = sys.buffer_of(bytes(232))
    sys.call(sys.OBJ_INFO, struct.pack("=2IQ", descriptor, 232, sys.pointer(info)), "read program info")
    loaded, uid = struct.unpack_from("=QI", info.raw, 40)
    since_boot = time.clock_gettime(time.CLOCK_BOOTTIME)
    name = info.raw[64:80].split(b"\0", 1)[0].decode("ascii", "replace")
    return Origin(struct.unpack_from("=I", info.raw, 4)[0], name, uid, time.time() - since_boot + loaded / 1e9)


def origin_of(number: int) -> Origin | None:
    """Of a program by its id; None without CAP_SYS_ADMIN, or where it has gone."""
    try:
        descriptor = bpf.prog_by_id(number)
    except bpf.BpfError:
        return None
    try:
        return origin(descriptor)
    finally:
        os.close(descriptor)


def links() -> Iterator[OtherLink]:
    """Every bpf_link of the kernel. Raises BpfError (EPERM without CAP_SYS_ADMIN)."""
    number = 0
    while True:
        attr = sys.buffer_of(struct.pack("=3I", number, 0, 0))
        try:
            sys.call(_LINK_NEXT_ID, attr, "list the links")
        except bpf.BpfError as error:
            if error.errno == errno.ENOENT:
                return
            raise
        number = struct.unpack_from("=I", attr.raw, 4)[0]
        with contextlib.suppress(bpf.BpfError):  # it went meanwhile
            descriptor = sys.call(sys.LINK_FD_BY_ID, struct.pack("=I", number), f"open link {number}")
            try:
                info = bpf.link_info(descriptor)
            finally:
                os.close(descriptor)
            yield OtherLink(info.id, info.type, info.prog_id, info.ifindex)


def xdp_link(ifindex: int, program: int) -> OtherLink | None:
    """The link by which a program is on a device's XDP hook; None: by netlink, without one. Raises BpfError (EPERM)."""
    return next((link for link in links() if (link.type, link.program, link.ifindex) == (LINK_XDP, program, ifindex)), None)


def holders(link: int) -> list[str]:
    """Who keeps a link: processes with a descriptor of it, and pins of it in /sys/fs/bpf."""
    return [*_processes(f"link_id:\t{link}"), *(f"the pin {path}" for path in _pins(link))]


def tcx(ifindex: int, attach_type: int) -> list[int]:
    """The ids of the programs on a tcx hook, in the order in which they run. Raises BpfError."""
    numbers = sys.buffer_of(bytes(4 * _MOST))
    attr = sys.buffer_of(struct.pack("=4IQ2I4Q", ifindex, attach_type, 0, 0, sys.pointer(numbers), _MOST, 0, 0, 0, 0, 0))
    sys.call(_PROG_QUERY, attr, f"ask for the programs of ifindex {ifindex}")
    return list(struct.unpack_from(f"={struct.unpack_from('=I', attr.raw, 24)[0]}I", numbers.raw))


def _processes(line: str) -> Iterator[str]:
    for process in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            if any(line in Path(f"/proc/{process}/fdinfo/{fd}").read_text().split("\n") for fd in os.listdir(f"/proc/{process}/fdinfo")):
                yield f"process {process} ({Path(f'/proc/{process}/comm').read_text().strip()})"


def _pins(link: int) -> Iterator[Path]:
    looked = 0
    for directory, _, names in os.walk(_PINS):
        for name in names:
            looked += 1
            if looked > _MOST_PINS:
                return
            with contextlib.suppress(OSError):
                descriptor = bpf.get_pinned(Path(directory, name))
                try:
                    kind = os.readlink(f"/proc/self/fd/{descriptor}")
                    if "bpf_link" in kind and bpf.link_info(descriptor).id == link:
                        yield Path(directory, name)
                finally:
                    os.close(descriptor)
