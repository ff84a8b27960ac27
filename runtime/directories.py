"""Are the state directory and netc's directory in the bpf file system netc's alone? Looked at before anything in them is believed.

Each step of the path is opened from the one before (openat, O_NOFOLLOW), so that what was looked at is what was walked: no symbolic link, no
directory on the way in which somebody else could put another in its place. Whoever can write a pin or a bundle decides what the kernel runs.
"""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH
_ANY_OTHER = stat.S_IRWXG | stat.S_IRWXO
_OPEN = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class DirectoryError(Exception):
    """A directory that cannot be trusted. The text says why and what to do."""


def check(path: Path, option: str) -> None:
    """A directory that is there is this user's, 0700, and nobody else could have put it there; one that is not there is fine.

    option: how the command line names another one. Raises DirectoryError.
    """
    descriptor = _walk(path.absolute(), option)
    if descriptor is None:
        return
    try:
        found = os.fstat(descriptor)
    finally:
        os.close(descriptor)
    if found.st_uid != os.geteuid():
        raise DirectoryError(f"{path} belongs to uid {found.st_uid}, not to root; its content cannot be trusted\n"
                             f"  = help: look what is in it, then: chown -R root {path}; or give another directory with {option}")  # fmt: skip
    if found.st_mode & _ANY_OTHER:
        raise DirectoryError(f"{path} is open to others (mode {stat.S_IMODE(found.st_mode):04o}); its content cannot be trusted\n"
                             f"  = help: look what is in it, then: chmod 700 {path}")  # fmt: skip


def check_bpffs(path: Path) -> None:
    """Of netc's pins: as `check`, where it lies in a bpf file system; a plain directory is what a bpf file system is yet to be mounted on."""
    from runtime.backends import bpf

    try:
        check(path, "--bpffs")
    except DirectoryError:
        if path.is_symlink() or bpf.is_bpffs(path):
            raise
        _walk_only(path)


def require_bpffs(path: Path) -> None:
    """Before the first pin: it is there, netc's alone, and in a bpf file system. Raises DirectoryError."""
    from runtime.backends import bpf

    check(path, "--bpffs")
    if not bpf.is_bpffs(path):
        raise DirectoryError(f"{path} is not in a bpf file system\n  = help: mount -t bpf -o mode=0700 bpf {path}, or give another directory with --bpffs")


def _walk_only(path: Path) -> None:
    descriptor = _walk(path.absolute(), "--bpffs")
    if descriptor is not None:
        os.close(descriptor)


def _walk(path: Path, option: str) -> int | None:
    """A descriptor of the directory; None where it, or one on the way, is not there."""
    at = os.open("/", _OPEN)
    for name in path.parts[1:]:
        try:
            _trust(at, name, path, option)
            further = os.open(name, _OPEN, dir_fd=at)
        except FileNotFoundError:
            os.close(at)
            return None
        except OSError as error:
            os.close(at)
            raise _refusal(error, name, path, option) from None
        except DirectoryError:
            os.close(at)
            raise
        os.close(at)
        at = further
    return at


def _trust(directory: int, name: str, path: Path, option: str) -> None:
    """Only root, or this user, can have put `name` there: a directory that others write to keeps each one's own apart (sticky)."""
    found = os.fstat(directory)
    if found.st_uid not in (0, os.geteuid()) or found.st_mode & _OTHERS_WRITE and not found.st_mode & stat.S_ISVTX:
        raise DirectoryError(f"{path}: others can change the directory that {name} is in (uid {found.st_uid}, mode {stat.S_IMODE(found.st_mode):04o})\n"
                             f"  = help: take that right from them, or give another directory with {option}")  # fmt: skip
    inside = os.stat(name, dir_fd=directory, follow_symlinks=False)
    if found.st_mode & _OTHERS_WRITE and inside.st_uid not in (0, os.geteuid()):
        raise DirectoryError(f"{path}: {name} belongs to uid {inside.st_uid}\n  = help: give another directory with {option}")


def _refusal(error: OSError, name: str, path: Path, option: str) -> DirectoryError:
    if error.errno in (errno.ELOOP, errno.ENOTDIR):
        return DirectoryError(f"{path}: {name} is a symbolic link or no directory\n  = help: give the real path ({os.path.realpath(path)}) with {option}")
    return DirectoryError(f"{path}: {error.strerror}\n  = help: give another directory with {option}")
