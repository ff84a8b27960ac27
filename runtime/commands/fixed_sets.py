"""add, del, replace of a fixed set: its policy is compiled again with the other members, and the new bundle is applied as any other.

The compiler's child reads the members, changes the set, and proves and compiles the policy's own text, which the installed bundle holds.
Packets are judged by the old program until the new one takes its place in one update.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from runtime.set_words import MAX_FILE, MembersError

if TYPE_CHECKING:
    from runtime.commands.target import Target
    from runtime.outcome import Outcome
    from runtime.state import Installed
    from runtime.steps import Step

PATIENCE = 10.0  # seconds that a change waits for others
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Told:
    """The first line of the compiler's answer (compiler.set_members.Change)."""

    added: int
    kept: int
    removed: int
    absent: list[str]


def change(options: argparse.Namespace, target: Target, action: str) -> int:
    """Make one change of the set `options.name`, and say what it was; `action`: add, del, replace or clear. Gives the exit status."""
    from runtime import apply, state

    deadline = time.monotonic() + PATIENCE
    with _listed(options.file) as (path, called):
        while True:
            installed = state.installed_here(target.store.record())
            if installed is None:  # taken off since the caller looked
                raise apply.ApplyError("no policy is installed any more; nothing was changed")
            told, data, warnings = _compiled(options, target, installed, action, path, called)
            sys.stderr.write(warnings)
            if not data:
                _show(options, told, installed, None)
                return 0
            wanted = apply.Change("set", data, installed.bindings, onto=installed.bundle, allow_lockout=options.allow_lockout,
                                  as_json=options.json)  # fmt: skip
            try:
                outcome = _patient(deadline, partial(apply.apply, target.store, target.context, wanted, _unseen))
            except apply.OvertakenError:
                if time.monotonic() > deadline:
                    raise
                continue  # made for a bundle that is no longer there: the members are to be put into what came in its place
            _show(options, told, installed, outcome)
            return 0


def _compiled(
    options: argparse.Namespace, target: Target, installed: Installed, action: str, path: str, called: str
) -> tuple[Told, bytes, str]:
    """What changes, the new bundle (empty: nothing changes), and the compiler's warnings. Raises CompilerFailed with the findings."""
    from runtime import compiler_child

    listed = ["--from", path, "--called", called] if path else []
    words = ["--", *options.members] if getattr(options, "members", ()) else []
    with target.store.bundle_file(installed.bundle) as where:
        answer = compiler_child.run_child(["members", *(["--json"] if options.json else []), str(where), options.name, action, *listed, *words])
    if answer.status != 0:
        raise compiler_child.CompilerFailed(f"{options.name} was not changed", answer.messages)
    told, _, data = answer.output.partition(b"\n")
    return Told(**json.loads(told)), data, answer.messages


@contextmanager
def _listed(file: str) -> Iterator[tuple[str, str]]:
    """The absolute path of a file of members, and what it is called; standard input becomes a file that the child can read."""
    if file != "-":
        yield (os.path.abspath(file), "") if file else ("", "")
        return
    data = sys.stdin.buffer.read(MAX_FILE + 1)
    if len(data) > MAX_FILE:
        raise MembersError(f"<stdin> is larger than {MAX_FILE >> 20} MiB; split it")
    with tempfile.NamedTemporaryFile(prefix="netc-members-") as kept:
        kept.write(data)
        kept.flush()
        yield kept.name, "<stdin>"


def _unseen(_what: str, _step: Step) -> None:
    """The steps are not told: what changed is one line."""


def _patient(deadline: float, work: Callable[[], T]) -> T:
    """The work, tried again while another command holds the lock. Raises LockedError."""
    from runtime import lock

    while True:
        try:
            return work()
        except lock.LockedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


def _show(options: argparse.Namespace, told: Told, installed: Installed, outcome: Outcome | None) -> None:
    from runtime import output, set_words
    from runtime.commands.outcome import warn

    if outcome is not None:
        warn(outcome)
        output.show_note(f"{installed.policy} itself was not changed: its next `netc apply` takes the members of {options.name} as they are written there")
    generation = outcome.record.generation if outcome else installed.generation
    if options.json:
        output.show_json({"set": options.name, "added": told.added, "kept": told.kept, "removed": told.removed, "absent": told.absent,
                          "evicted": 0, "changed": outcome is not None, "generation": generation})  # fmt: skip
        return
    parts = [(told.added, "added"), (told.removed, "removed"), (told.kept, "members already")]
    words = "; ".join(f"{number:,} {what}" for number, what in parts if number)
    if outcome is None:
        words = f"nothing to change{f' ({words})' if words else ''}"
    else:
        words += f"; applied as generation {generation}"
    print(f"{options.name}: {words}")
    set_words.show_absent(told.absent)
