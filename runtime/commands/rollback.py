"""rollback, remove: back to what was installed before, or to nothing."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from runtime.commands import outcome as outcomes
from runtime.commands import target as targets

if TYPE_CHECKING:
    from runtime.outcome import Outcome


def add_parser(subparsers: Any) -> None:
    for name, run, text in (
        ("rollback", run_rollback, "Apply the bundle that was installed before, as a new generation, on the devices that it was on."),
        ("remove", run_remove, "Take everything of netc off the devices. The history stays: `netc rollback` brings the policy back."),
    ):
        command = subparsers.add_parser(name, help=text.split(". ")[0].split(",")[0].rstrip("."), description=text)
        targets.add_options(command)
        if name == "rollback":
            targets.add_lockout(command)
        command.set_defaults(run=run)


def run_rollback(options: argparse.Namespace) -> int:
    with targets.opened(options) as target:
        outcomes.show(roll_back(target, options.json, options.allow_lockout), "rollback", options.json)
    return 0


def run_remove(options: argparse.Namespace) -> int:
    from runtime import apply

    with targets.opened(options) as target:
        change = apply.Change("remove", None, {})
        outcomes.show(apply.apply(target.store, target.context, change, outcomes.reporter(options.json)), "remove", options.json)
    return 0


def roll_back(target: targets.Target, as_json: bool, allow_lockout: bool) -> Outcome:
    """End a trial, else apply the newest entry of the history that is another bundle or binding than what is installed."""
    from runtime import apply, confirm, state
    from runtime.outcome import Outcome

    ended = confirm.end(target.store, target.context)
    if ended is not None:
        return Outcome(None, target.store.record(), True, recovered=tuple(ended))
    record = target.store.record()
    current = state.installed_here(record)
    before = next(
        (e for e in reversed(record.history) if current is None or (e.bundle, e.bindings) != (current.bundle, current.bindings)), None
    )
    if before is None:
        raise apply.ApplyError("there is nothing to roll back to: no other bundle was installed before")
    data = target.store.bundle_bytes(before.bundle)
    change = apply.Change("rollback", data, before.bindings, allow_lockout=allow_lockout, as_json=as_json)
    return apply.apply(target.store, target.context, change, outcomes.reporter(as_json))
