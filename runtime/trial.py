"""A policy that has to be confirmed: all of it is in force until a deadline, and what was there before is back from then on.

    apply --confirm   runs the transaction up to its checks and writes the deadline into the journal instead of committing
    confirm           commits, and does what the transaction left: the links get the programs themselves, the old generation goes
    the deadline      lives in the data path for BPF programs (runtime.steps.xdp_trial); the rest is taken back by the watchdog (runtime.watchdog)

The journal says everything about a trial; a reboot ends it, as the kernel's objects and state.json, which never heard of it, are those of before.
"""

from __future__ import annotations

import time

import msgspec

from runtime import state
from runtime.context import Context
from runtime.journal import Journal, Unfinished
from runtime.state import Installed, Record
from runtime.steps import StepError

LEAST, MOST = 1.0, 86_400.0  # seconds


class OnTrialError(Exception):
    """Something else would change what is on trial. The text says until when it is, and what ends it."""

    def __init__(self, unfinished: Unfinished) -> None:
        generation = unfinished.intent.generation
        super().__init__(
            f"generation {generation} is on trial for {left(unfinished):.0f} s more; nothing was changed\n"
            "  = help: netc confirm keeps it, netc rollback takes it back"
        )
        self.unfinished = unfinished


def start(context: Context, journal: Journal) -> None:
    """From here on the trial takes its time. Raises StateError, StepError."""
    from runtime.backends import bpf
    from runtime.steps import xdp_trial

    deadline = time.monotonic() + context.trial
    try:
        xdp_trial.set_deadline(context, deadline)
    except bpf.BpfError as error:
        raise StepError("set the deadline", str(error)) from None
    journal.on_trial(deadline)


def running(store: state.Store) -> Unfinished | None:
    """What is on trial now. Raises StateError."""
    from runtime.boot import boot_id

    found = Journal(store.directory).unfinished()
    if found is None or found.deadline is None or found.intent.boot != boot_id() or store.record().generation >= found.intent.generation:
        return None
    return found


def left(unfinished: Unfinished) -> float:
    """Seconds to the deadline, 0 behind it."""
    return max(0.0, (unfinished.deadline or 0.0) - time.monotonic())


def is_over(unfinished: Unfinished) -> bool:
    return left(unfinished) <= 0


def installed(store: state.Store, unfinished: Unfinished) -> Installed:
    """What is on trial, as state.json will have it when it is confirmed. Raises StateError."""
    intent = unfinished.intent
    policy = store.bundle(intent.new).policy
    since = int(time.time() - intent.trial + left(unfinished))
    return Installed(intent.generation, intent.new, policy, intent.bindings, since, intent.boot)


def record_after(store: state.Store, record: Record, unfinished: Unfinished) -> Record:
    """The record once it is confirmed."""
    intent = unfinished.intent
    after = state.installed_now(record, intent.new, store.bundle(intent.new).policy, intent.bindings, intent.command)
    assert after.current is not None
    current = msgspec.structs.replace(after.current, generation=intent.generation)
    return msgspec.structs.replace(after, generation=intent.generation, current=current)
