"""One change at a time: an flock(2) on <state>/lock, which the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class LockedError(Exception):
    """Somebody else is changing this host's netc state. The text names the process."""


@contextmanager
def exclusive(directory: Path, command: str) -> Iterator[None]:
    """Hold the lock of a state directory. Raises LockedError at once, never waits; `command` is what a second comer is told."""
    handle = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = os.pread(handle, 200, 0).decode("ascii", "replace").strip() or "another netc"
            raise LockedError(f"{holder} is at work in {directory}; nothing was changed, try again when it is done") from None
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"netc {command} (pid {os.getpid()})\n".encode("ascii", "replace"), 0)
        yield
        os.ftruncate(handle, 0)
    finally:
        os.close(handle)
