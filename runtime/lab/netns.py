"""Named network namespaces as `ip netns` keeps them: a bind mount of nsfs under /run/netns. Standard library only.

`enter` changes the calling *thread* with setns(2) (Python 3.11 has no os.setns). It does not touch mounts as `ip netns exec` does, so
bpffs pins stay reachable; /sys/class/net goes on showing the old namespace's devices (use runtime.backends.sysfs).
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

DIRECTORY = Path("/run/netns")  # NETNS_RUN_DIR of iproute2's ip/ipnetns.c
SELF = "/proc/thread-self/ns/net"
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}\Z")
_CLONE_NEWNET = 0x40000000
_MS_BIND, _MS_REC, _MS_SHARED, _MNT_DETACH = 0x1000, 0x4000, 1 << 20, 2
_libc = ctypes.CDLL(None, use_errno=True)


class NetnsError(OSError):
    """The kernel refused, or a name that is not one. The text names the namespace, the attempt and the kernel's words."""


def path(name: str) -> Path:
    """Where `name` is mounted, whether it exists or not. Raises NetnsError for a name that could leave the directory."""
    if not _NAME.match(name):
        raise NetnsError(errno.EINVAL, f"{name!r} is no name for a network namespace (letters, digits, '_', '.', '-')")
    return DIRECTORY / name


def exists(name: str) -> bool:
    return path(name).exists()


def names() -> tuple[str, ...]:
    """Every named namespace of this host, sorted."""
    return tuple(sorted(os.listdir(DIRECTORY))) if DIRECTORY.is_dir() else ()


def identity(name: str) -> int:
    """The namespace's inode: the kernel gives no other living namespace the same. Raises NetnsError (ENOENT)."""
    try:
        return os.stat(path(name)).st_ino
    except OSError as error:
        raise NetnsError(error.errno or 0, f"network namespace {name}: {error.strerror}") from None


def create(name: str) -> None:
    """A new namespace, everything in it down, visible to `ip netns`. Raises NetnsError (EEXIST, EPERM)."""
    place = path(name)
    _prepare_directory()
    try:
        os.close(os.open(place, os.O_RDONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))
    except OSError as error:
        raise NetnsError(error.errno or 0, f"create network namespace {name}: {error.strerror}") from None
    try:
        with ThreadPoolExecutor(1) as short_lived:  # unshare changes a thread for good
            short_lived.submit(_unshare_and_mount, place, name).result()
    except BaseException:
        place.unlink()
        raise


def delete(name: str) -> None:
    """Remove the name; the kernel frees the namespace and its devices with its last user. Raises NetnsError (ENOENT)."""
    place = path(name)
    if _libc.umount2(os.fsencode(place), _MNT_DETACH) != 0 and ctypes.get_errno() != errno.EINVAL:  # EINVAL: no mount on it
        _refuse(f"delete network namespace {name}")
    place.unlink()


@contextmanager
def enter(name: str) -> Iterator[None]:
    """Run the block with the calling thread in `name`, then return to the namespace it came from, also after an error. Whoever is there already stays."""
    try:
        target = os.open(path(name), os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise NetnsError(error.errno or 0, f"enter network namespace {name}: {error.strerror}") from None
    try:
        before = os.open(SELF, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.path.sameopenfile(target, before):  # setns(2) needs CAP_SYS_ADMIN also to stay
                yield
                return
            _setns(target, f"enter network namespace {name}")
            try:
                yield
            finally:
                _setns(before, "return to the network namespace before")
        finally:
            os.close(before)
    finally:
        os.close(target)


def _setns(fd: int, what: str) -> None:
    if _libc.setns(fd, _CLONE_NEWNET) != 0:
        _refuse(what)


def _unshare_and_mount(place: Path, name: str) -> None:
    if _libc.unshare(_CLONE_NEWNET) != 0:
        _refuse(f"create network namespace {name}")
    if _libc.mount(SELF.encode(), os.fsencode(place), b"none", ctypes.c_ulong(_MS_BIND), None) != 0:
        _refuse(f"mount network namespace {name}")


def _prepare_directory() -> None:
    """Make the directory a shared mount, as iproute2 does, so that other mount namespaces see names come and go."""
    DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
    lock = os.open(DIRECTORY, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # the lock that iproute2 takes for the same reason: two at once would stack mounts
        _share_directory(os.fsencode(DIRECTORY))
    finally:
        os.close(lock)


def _share_directory(where: bytes) -> None:
    shared = ctypes.c_ulong(_MS_SHARED | _MS_REC)
    if _libc.mount(b"", where, b"none", shared, None) == 0:
        return
    if ctypes.get_errno() != errno.EINVAL:  # EINVAL: not a mount point yet
        _refuse(f"share {DIRECTORY}")
    if _libc.mount(where, where, b"none", ctypes.c_ulong(_MS_BIND | _MS_REC), None) != 0:
        _refuse(f"bind {DIRECTORY} to itself")
    if _libc.mount(b"", where, b"none", shared, None) != 0:
        _refuse(f"share {DIRECTORY}")


def _refuse(what: str) -> None:
    number = ctypes.get_errno()
    raise NetnsError(number, f"{what}: {os.strerror(number)}" + (" (root is needed)" if number == errno.EPERM else ""))
