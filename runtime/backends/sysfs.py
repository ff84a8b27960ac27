"""sysfs and procfs of the network namespace that this thread is in.

After setns(2) the mounted /sys still shows the namespace it was mounted in: a write meant for a lab's device would hit the host's
device of the same name. So sysfs is reached only through a mount of its own, made by fsopen(2) and fsmount(2) after setns and attached
nowhere. Without CAP_SYS_ADMIN that is refused: then /sys serves if its devices are this namespace's, by name, index and address. /proc/sys/net needs nothing of the kind: it shows the opening thread's namespace. Source: fs/sysfs/mount.c, net/sysctl_net.c.
"""

from __future__ import annotations

import ctypes
import errno
import os
from pathlib import PurePosixPath
from types import TracebackType
from typing import Self

_FSOPEN, _FSCONFIG, _FSMOUNT = 430, 431, 432  # the same numbers on every architecture (asm-generic/unistd.h)
_FSOPEN_CLOEXEC, _FSCONFIG_CMD_CREATE, _FSMOUNT_CLOEXEC = 1, 6, 1
_READ_MAX = 1 << 16


class Sysfs:
    """A view of /sys of the current network namespace, by paths relative to it. Use as a context manager.

    Raises OSError: EPERM without CAP_SYS_ADMIN where /sys is not this namespace's.
    """

    def __init__(self) -> None:
        try:
            self._directory = _mount_sysfs()
        except PermissionError as error:
            self._directory = _mounted_sysfs(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        os.close(self._directory)

    def read(self, path: str) -> str:
        """The file's text without the closing newline. Raises OSError."""
        return _read(_open(path, os.O_RDONLY, self._directory))

    def write(self, path: str, text: str) -> None:
        """Write `text` in one write(2): the attribute takes all of it or refuses. Raises OSError."""
        _write(_open(path, os.O_WRONLY, self._directory), text)

    def names(self, path: str) -> list[str]:
        """The entries of a directory, numbers in their order. Raises OSError."""
        descriptor = _open(path, os.O_RDONLY | os.O_DIRECTORY, self._directory)
        try:
            return sorted(os.listdir(descriptor), key=_natural)
        finally:
            os.close(descriptor)

    def target(self, path: str) -> str:
        """Where a symbolic link of the tree leads, as a path inside it. Raises OSError."""
        there = os.readlink(_relative(path), dir_fd=self._directory)
        return os.path.normpath(os.path.join("/", os.path.dirname(path), there)).lstrip("/")

    def exists(self, path: str) -> bool:
        try:
            os.stat(_relative(path), dir_fd=self._directory)
        except OSError:
            return False
        return True


def read_proc(path: str) -> str:
    """A file under /proc as this thread sees it. Raises OSError."""
    return _read(_open(_proc(path), os.O_RDONLY, None))


def write_proc(path: str, text: str) -> None:
    """Write a file under /proc in one write(2). Raises OSError."""
    _write(_open(_proc(path), os.O_WRONLY, None), text)


def _proc(path: str) -> str:
    """Of /proc only what belongs to a setting. Network files by the thread's own view: /proc/net is the process's."""
    relative = _relative(path)
    return f"/proc/{relative}"


def _relative(path: str) -> str:
    parts = PurePosixPath(path).parts
    if not parts or path.startswith("/") or ".." in parts or "\0" in path:
        raise OSError(errno.EINVAL, f"not a path inside the file system: {path!r}")
    return path


def _open(path: str, flags: int, directory: int | None) -> int:
    name = path if directory is None else _relative(path)
    return os.open(name, flags | os.O_CLOEXEC | os.O_NOCTTY, dir_fd=directory)


def _read(descriptor: int) -> str:
    try:
        return os.read(descriptor, _READ_MAX).decode("utf-8", "replace").rstrip("\n")
    finally:
        os.close(descriptor)


def _write(descriptor: int, text: str) -> None:
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)


def _natural(name: str) -> tuple[str, int]:
    head = name.rstrip("0123456789")
    return head, int(name[len(head) :] or -1)


def _mounted_sysfs(refusal: PermissionError) -> int:
    """/sys, where it shows exactly the devices of this network namespace."""
    descriptor = os.open("/sys", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if _shows(descriptor) == _there():
            return descriptor
    except OSError:
        pass  # a device came or went meanwhile: no proof
    os.close(descriptor)
    raise PermissionError(refusal.errno, "/sys shows another network namespace's devices, and a view of this one's needs CAP_SYS_ADMIN")


def _shows(directory: int) -> set[tuple[str, int, str]]:
    def said(name: str, file: str) -> str:
        return _read(_open(f"class/net/{name}/{file}", os.O_RDONLY, directory))

    at = _open("class/net", os.O_RDONLY | os.O_DIRECTORY, directory)
    try:
        names = os.listdir(at)
    finally:
        os.close(at)
    return {(name, int(said(name, "ifindex")), said(name, "address")) for name in names if name != "bonding_masters"}


def _there() -> set[tuple[str, int, str]]:
    """This namespace's devices by rtnetlink."""
    from runtime.backends import link

    return {(each.name, each.ifindex, each.address.hex(":")) for each in link.every()}


def _mount_sysfs() -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    context = _call(libc, "fsopen", _FSOPEN, b"sysfs", _FSOPEN_CLOEXEC)
    try:
        _call(libc, "fsconfig", _FSCONFIG, context, _FSCONFIG_CMD_CREATE, None, None, 0)
        return _call(libc, "fsmount", _FSMOUNT, context, _FSMOUNT_CLOEXEC, 0)
    finally:
        os.close(context)


def _call(libc: ctypes.CDLL, name: str, number: int, *arguments: int | bytes | None) -> int:
    wide = [ctypes.c_long(a) if isinstance(a, int) else a for a in arguments]
    result = libc.syscall(ctypes.c_long(number), *wide)
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, f"{name}: {os.strerror(code)}")
    return int(result)
