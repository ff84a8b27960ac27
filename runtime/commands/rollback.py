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
        ("rollback", run_rollback, "Apply the bundle that was installed before, or one that `netc history` numbers, as a new generation, on the devices that it was on."),
        ("remove", run_remove, "Take everything of netc off the devices. The history stays: `netc rollback` brings the policy back."),
    ):
        command = subparsers.add_parser(name, help=text.split(". ")[0].split(",")[0].rstrip("."), description=text)
        if name == "rollback":
            command.add_argument("number", nargs="?", type=int, metavar="NUMBER", help="an entry of `netc history` (the newest that is not installed now)")
        targets.add_options(command)
        if name == "rollback":
            targets.add_lockout(command)
        targets.add_allow_disruptive(command)
        command.set_defaults(run=run)


def run_rollback(options: argparse.Namespace) -> int:
    with targets.opened(options) as target:
        outcomes.show(roll_back(target, options.json, options.number, options.allow_lockout, options.allow_disruptive), "rollback", options.json)
    return 0


def run_remove(options: argparse.Namespace) -> int:
    from runtime import apply

    with targets.opened(options) as target:
        change = apply.Change("remove", None, {}, allow_disruptive=options.allow_disruptive)
        outcomes.show(apply.apply(target.store, target.context, change, outcomes.reporter(options.json)), "remove", options.json)
    return 0


def roll_back(target: targets.Target, as_json: bool, number: int | None = None, allow_lockout: bool = False, allow_disruptive: bool = False) -> Outcome:
    """End a trial; else, or where a number is given, apply that entry of the history (None: the newest that is not what is installed)."""
    from runtime import apply, confirm, history
    from runtime.outcome import Outcome

    ended = confirm.end(target.store, target.context)
    if ended is not None and number is None:
        return Outcome(None, target.store.record(), True, recovered=tuple(ended))
    before = history.wanted(target.store.record(), number)
    target.store.bundle(before.bundle)  # whole, or its file is named
    data = target.store.bundle_bytes(before.bundle)
    change = apply.Change("rollback", data, before.bindings, allow_lockout=allow_lockout, allow_disruptive=allow_disruptive, as_json=as_json)
    return apply.apply(target.store, target.context, change, outcomes.reporter(as_json))
