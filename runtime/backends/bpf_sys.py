"""The bpf(2) system call itself: one function, its numbers, its error. Everything else of `runtime.backends.bpf*` stands on it.

Layouts are those of `union bpf_attr` in include/uapi/linux/bpf.h; every attribute is packed with `struct` and zero-filled to its end.
"""

from __future__ import annotations

import ctypes
import errno
import os
from types import TracebackType

_NUMBERS = {"x86_64": 321, "aarch64": 280, "riscv64": 280}
_NUMBER = _NUMBERS.get(os.uname().machine, 280)
_libc = ctypes.CDLL(None, use_errno=True)
_RETRIES = 16  # EAGAIN: a signal was pending while the verifier ran (kernel/bpf/syscall.c, verifier.c)

MAP_CREATE, MAP_LOOKUP, MAP_UPDATE, MAP_DELETE, MAP_NEXT_KEY, PROG_LOAD, OBJ_PIN, OBJ_GET = range(8)
PROG_TEST_RUN, PROG_FD_BY_ID, OBJ_INFO, MAP_FREEZE = 10, 13, 15, 22
MAP_LOOKUP_BATCH, MAP_UPDATE_BATCH, MAP_DELETE_BATCH, LINK_CREATE, LINK_UPDATE, LINK_FD_BY_ID, LINK_DETACH = 24, 26, 27, 28, 29, 30, 34


class BpfError(OSError):
    """The kernel said no. `errno` is its answer, `what` the attempt, `log` the verifier's last words (only for programs)."""

    def __init__(self, number: int, what: str, log: str = "") -> None:
        text = f"{what}: {os.strerror(number)}" + (f"\n{log}" if log else "")
        super().__init__(number, text)
        self.what, self.log = what, log

    def __str__(self) -> str:
        return self.args[1] if len(self.args) > 1 else super().__str__()


class Fd:
    """Owns one file descriptor: closed at the end of a `with` block or by `close`, never twice."""

    def __init__(self, number: int) -> None:
        self.number = number

    def fileno(self) -> int:
        return self.number

    def take(self) -> int:
        """Give the descriptor away: the caller closes it."""
        number, self.number = self.number, -1
        return number

    def close(self) -> None:
        if self.number >= 0:
            os.close(self.take())

    def __enter__(self) -> int:
        return self.number

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def call(command: int, attr: bytes | ctypes.Array[ctypes.c_char], what: str) -> int:
    """Run bpf(command, attr). EINTR and EAGAIN are tried again. Raises BpfError. A ctypes buffer shows what the kernel wrote."""
    buffer = ctypes.create_string_buffer(attr, len(attr)) if isinstance(attr, bytes) else attr
    for attempt in range(_RETRIES):
        ctypes.set_errno(0)
        result: int = _libc.syscall(_NUMBER, command, buffer, ctypes.c_uint(len(buffer)))
        if result >= 0:
            return result
        number = ctypes.get_errno()
        if number not in (errno.EINTR, errno.EAGAIN) or attempt == _RETRIES - 1:
            raise BpfError(number, what)
    raise AssertionError("unreachable")


def pointer(buffer: ctypes.Array[ctypes.c_char] | None) -> int:
    """A buffer's address as bpf_attr wants it; the caller keeps the buffer alive over the call."""
    return ctypes.addressof(buffer) if buffer is not None else 0


def buffer_of(data: bytes) -> ctypes.Array[ctypes.c_char]:
    """A writable copy, with no NUL added."""
    return ctypes.create_string_buffer(data, len(data)) if data else ctypes.create_string_buffer(1)


def object_name(name: str) -> bytes:
    """At most 15 characters that the kernel takes in names of maps and programs (bpf_obj_name_cpy)."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "_" for c in name).encode()[:15]
