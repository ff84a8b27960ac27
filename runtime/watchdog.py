"""Who ends a change whose process has died, and a trial that nobody confirms: a process of its own, there before anything is changed.

It is forked from the one that changes something, so it needs nothing that a host in trouble may lack: no file to read, no memory to speak of. A pipe
tells it when that one is done, or dead: its write end closes either way, and the journal tells which. Where systemd runs, a trial has a second one
beside it, a transient service: the end of an ssh session may take along what was forked in it (KillUserProcesses in logind.conf).

Invariants
    the watchdog holds no lock while it waits            else nobody could confirm
    it recovers under the lock, like any command         two recoveries at once would undo each other's steps
    it acts on what the journal says then, not at fork    whoever came in between has ended the change already
"""

from __future__ import annotations

import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from runtime import lock, state
from runtime.context import Context
from runtime.journal import Journal, Unfinished

_POLL = 0.1  # seconds between looks at the journal while a trial runs
_PATIENCE = 600.0  # seconds in which another command that holds the lock gets to end; it recovers first itself
_READY = 5.0  # seconds
_SYSTEMD = Path("/run/systemd/system")


class WatchdogError(Exception):
    """No watchdog could be started, so nothing was changed."""


@contextmanager
def armed(store: state.Store, context: Context) -> Iterator[None]:
    """Have a watchdog for what is done within. The caller holds the lock. Raises WatchdogError."""
    wake = _start(store, context)
    try:
        yield
    finally:
        os.close(wake)


def _start(store: state.Store, context: Context) -> int:
    """Fork twice, so that nobody has to wait for the watchdog; gives the pipe whose end wakes it."""
    pipes: list[int] = []
    try:
        pipes += os.pipe2(os.O_CLOEXEC)
        pipes += os.pipe2(os.O_CLOEXEC)
        child = os.fork()
    except OSError as error:
        for end in pipes:
            os.close(end)
        raise WatchdogError(f"cannot start a watchdog: {error.strerror}; nothing was changed") from None
    sleep, wake, ready, tell = pipes
    if child == 0:
        _leave(sleep, tell, store, context)
    os.close(sleep)
    os.close(tell)
    os.waitpid(child, 0)
    try:
        if not select.select([ready], [], [], _READY)[0] or not os.read(ready, 1):
            os.close(wake)
            raise WatchdogError("the watchdog died before anything was changed; try again")
    finally:
        os.close(ready)
    return wake


def _leave(sleep: int, tell: int, store: state.Store, context: Context) -> None:
    """The child: its child is the watchdog. Never returns."""
    try:
        if os.fork() == 0:
            _detach(sleep, tell)
            os.write(tell, b"!")
            os.close(tell)
            os.read(sleep, 1)  # nobody writes: the end of the file is the news
            watch(store, context)
    finally:
        os._exit(0)


def _detach(*kept: int) -> None:
    """A session of its own, none of the parent's files: its lock is one of them, and whoever reads its output waits for its end."""
    os.setsid()
    signal.signal(signal.SIGTERM, signal.SIG_DFL)  # a shutdown: it ends every change by itself
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGPIPE):
        signal.signal(number, signal.SIG_IGN)
    nothing = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(nothing, standard)
    at = 3
    for descriptor in sorted(kept):
        os.closerange(at, descriptor)
        at = descriptor + 1
    os.closerange(at, os.sysconf("SC_OPEN_MAX"))
    os.chdir("/")


def entrust(context: Context, generation: int) -> str:
    """Have systemd run a watchdog for a trial, too, in this network namespace: its unit's name; "" where there is no systemd, or it will not. The caller holds the lock."""
    if context.netns or not _SYSTEMD.is_dir():
        return ""  # a lab's watchdog ends with its lab
    import subprocess

    unit = f"netc-trial-{generation}-{os.getpid()}.service"
    where = ("--state-dir", str(context.state.absolute()), "--bpffs", str(context.bpffs.absolute()))
    options = ("--quiet", "--collect", "--service-type=exec", f"--unit={unit}", f"--property=NetworkNamespacePath=/proc/{os.getpid()}/ns/net")
    command = ["systemd-run", *options, sys.executable, "-m", "runtime.cli", "recover", "--wait", *where]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=_READY, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return unit if done.returncode == 0 else ""


def watch(store: state.Store, context: Context) -> None:
    """Wait for the end of a trial, then end what is unfinished; the end of it by somebody else ends this, too."""
    from runtime import recover

    until = time.monotonic() + _PATIENCE
    while Journal(store.directory).path.exists() and time.monotonic() < until:
        found = _unfinished(store)  # None: it died before its intent was on disk, or nobody can read that; recovery knows which
        if found is not None and found.deadline is not None and not _committed(store, found) and (wait := found.deadline - time.monotonic()) > 0:
            until = found.deadline + _PATIENCE
            recover.prepare()
            time.sleep(min(wait, _POLL))
            continue
        try:
            with lock.exclusive(store.directory, lock.WATCHDOG):
                note(store, recover.recover(store, context, removing=False))
            return
        except lock.LockedError:
            time.sleep(_POLL / 2)
        except Exception as error:  # noqa: BLE001  whatever it is, the next command tries again and tells it to somebody
            note(store, [f"could not end it: {error}"])
            return


def _committed(store: state.Store, found: Unfinished) -> bool:
    """Was it confirmed, and only its end is missing?"""
    try:
        return store.record().generation >= found.intent.generation
    except state.StateError:
        return False


def _unfinished(store: state.Store) -> Unfinished | None:
    try:
        return Journal(store.directory).unfinished()
    except state.StateError:
        return None


def note(store: state.Store, words: list[str]) -> None:
    """What the watchdog did, where `netc status` and the system's log show it."""
    import syslog

    if not words:
        return
    for text in words:
        syslog.syslog(syslog.LOG_WARNING, f"netc watchdog: {text}")
    lines = [time.strftime("%Y-%m-%dT%H:%M:%S%z"), *words]
    state.write_atomically(store.directory / "watchdog.txt", ("\n".join(lines) + "\n").encode())


def last(store: state.Store) -> list[str]:
    """When the watchdog last ended something, and what; empty when it never did."""
    try:
        return (store.directory / "watchdog.txt").read_text("utf-8", "replace").splitlines()
    except OSError:
        return []
