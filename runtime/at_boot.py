"""At boot: the last confirmed bundle is applied; where that fails, the last good one before it; where none can be, the devices stay closed.

Bundles only: no compiler, no lark, no bcc. The devices are closed first (runtime.closed_host) and opened by the apply that succeeds, so that
netc may die at any moment and the host is neither open nor cut off. docs/decisions/0013.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from compiler.bundle import Bundle, BundleError
from runtime import apply, binding, closed_host, recover, state
from runtime.context import Context
from runtime.lock import LockedError
from runtime.outcome import Outcome, Report
from runtime.owner import OwnerError
from runtime.state import Installed, StateError, Store
from runtime.steps import StepError
from runtime.transaction import TransactionFailed
from runtime.trial import OnTrialError
from runtime.watchdog import WatchdogError

_REFUSALS = (StateError, BundleError, StepError, TransactionFailed, binding.BindingError, apply.ApplyError, OwnerError, recover.RecoveryFailed, LockedError,
             OnTrialError, WatchdogError, OSError)  # fmt: skip
_POLL = 0.1  # seconds
_HELP = "\n  = help: "


@dataclass(frozen=True, slots=True)
class Booted:
    """outcome: of the bundle in force, None where none is. wanted: was it the confirmed one? tried: what was refused, and why. closed: what is let in."""

    outcome: Outcome | None
    wanted: bool
    tried: tuple[tuple[str, str], ...] = ()
    closed: tuple[str, ...] = ()


def boot(store: Store, context: Context, wait: float, report: Report, warn: Callable[[str], None]) -> Booted:
    """Put what was confirmed last in force. Raises nothing that a damaged state, a missing device or the kernel can bring about."""
    try:
        record = store.record()
    except StateError as error:
        warn(str(error))
        return Booted(None, False, (("state.json", str(error)),), tuple(_close([], [], warn)))
    if record.current is None:
        with contextlib.suppress(StepError):
            closed_host.open_again()
        return Booted(None, True)  # nothing is wanted: never applied, or removed
    entries = _entries(record)
    closed: list[str] = []
    if state.installed_here(record) is None:
        closed = _close(sorted({device for entry in entries for device in entry.bindings.values()}), _readable(store, entries), warn)
    tried: list[tuple[str, str]] = []
    until = time.monotonic() + wait
    for entry in entries:
        name = f"{entry.policy} ({entry.bundle[:12]}, generation {entry.generation})"
        try:
            _wait(entry, until)
            change = apply.Change("boot", store.bundle_bytes(entry.bundle), entry.bindings, allow_lockout=True, allow_disruptive=True)  # nobody is connected yet
            return Booted(apply.apply(store, context, change, report), entry is entries[0], tuple(tried))
        except _REFUSALS as error:
            tried.append((name, _words(error)))
            warn(f"{name} cannot be put in force: {_words(error).partition(_HELP)[0]}")
    return Booted(None, False, tuple(tried), tuple(closed))


def _entries(record: state.Record) -> list[Installed]:
    """The confirmed bundle, then those before it, the newest first; each bundle once for its devices."""
    found: dict[tuple[str, tuple[tuple[str, str], ...]], Installed] = {}
    for entry in (record.current, *reversed(record.history)):
        if entry is not None:
            found.setdefault((entry.bundle, tuple(sorted(entry.bindings.items()))), entry)
    return list(found.values())


def _readable(store: Store, entries: list[Installed]) -> Iterator[Bundle]:
    """The newest bundle that can be read says what is protected."""
    for entry in entries:
        with contextlib.suppress(StateError, BundleError, OSError):
            yield store.bundle(entry.bundle)
            return


def _close(devices: list[str], bundles: Iterator[Bundle] | list[Bundle], warn: Callable[[str], None]) -> list[str]:
    try:
        return closed_host.close(devices, bundles)
    except (StepError, OSError) as error:
        warn(f"the devices could not be closed: {error}")
        return []


def _wait(entry: Installed, until: float) -> None:
    """Devices may come late (udev). Raises nothing: what is missing at the end the apply says in its own words."""
    wanted = set(entry.bindings.values())
    while not wanted <= {name for _, name in socket.if_nameindex()} and time.monotonic() < until:
        time.sleep(_POLL)


def _words(error: BaseException) -> str:
    from runtime.commands.errors import describe

    return describe(error) if isinstance(error, Exception) else str(error)
