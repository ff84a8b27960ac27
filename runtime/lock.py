"""One change at a time: an flock(2) on <state>/lock, which the kernel releases when its holder dies."""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

WATCHDOG = "watchdog"  # as whom runtime.watchdog holds it
_NAMELESS = "another netc"
_POLL = 0.02  # seconds


class LockedError(Exception):
    """Somebody else is changing this host's netc state. The text names the process."""


@contextmanager
def exclusive(directory: Path, command: str) -> Iterator[None]:
    """Hold the lock of a state directory; `command` is what a second comer is told. Raises LockedError at once: only for a watchdog is waited,
    which ends what this command would have to end first."""
    try:
        handle = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise _unlockable(directory, error) from None
    try:
        try:
            _take(handle, directory, command)
        except OSError as error:
            raise _unlockable(directory, error) from None
        yield
        with suppress(OSError):  # the name of a holder that is gone: the next one writes its own
            os.ftruncate(handle, 0)
    finally:
        os.close(handle)


def _take(handle: int, directory: Path, command: str) -> None:
    """Take the lock and write whose it is. Raises LockedError, OSError."""
    began = time.monotonic()
    while holder := _taken(handle):
        if time.monotonic() - began >= _patience(holder, command):
            raise LockedError(f"{holder} is at work in {directory}; nothing was changed, try again when it is done")
        time.sleep(_POLL)
    os.ftruncate(handle, 0)
    os.pwrite(handle, f"netc {command} (pid {os.getpid()}, since {time.strftime('%H:%M:%S')})\n".encode("ascii", "replace"), 0)


def _unlockable(directory: Path, error: OSError) -> LockedError:
    return LockedError(f"cannot lock {directory / 'lock'}: {error.strerror}; nothing was changed")


def _taken(handle: int) -> str:
    """Take the lock, or say who has it."""
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(handle, 200, 0).decode("ascii", "replace").strip()
        return holder if _is_there(holder) else _NAMELESS
    return ""


def _patience(holder: str, command: str) -> float:
    """Seconds that a holder of the lock gets: one that has not written its name yet may be a watchdog, and a watchdog waits for nobody."""
    if command == WATCHDOG:
        return 0.0
    return 10.0 if holder.startswith(f"netc {WATCHDOG} ") else 0.1 if holder == _NAMELESS else 0.0


def _is_there(holder: str) -> bool:
    """One that was killed left its name to whoever came after it and has not written its own yet."""
    found = re.search(r"\(pid (\d+)", holder)
    return found is not None and os.path.exists(f"/proc/{found[1]}")
