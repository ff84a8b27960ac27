"""plan: what an apply would change on this host as it is now, and why each intent is where it is; changes nothing."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.commands import apply as applying
from runtime.commands import foreign, rules
from runtime.commands import target as targets

if TYPE_CHECKING:
    from runtime.apply import Change
    from runtime.plan_view import View


def add_parser(subparsers: Any) -> None:
    text = ("What an apply would change on this host as it is now, in the words of the policy; what was changed outside netc comes first. Changes nothing. "
            "Exit status: 0 nothing would change, 2 something would, 1 it cannot be done.")  # fmt: skip
    command = subparsers.add_parser("plan", help="what an apply would change, and why; changes nothing", description=text)
    applying.add_options(command)
    command.add_argument("--long", action="store_true", help="nothing is shortened; also every step, and why each intent is where it is")
    command.add_argument("-o", "--output", type=Path, metavar="FILE",
                         help="save the plan: `netc apply FILE` does exactly that, and refuses when the host has moved on")  # fmt: skip
    command.set_defaults(run=run_plan)


def run_plan(options: argparse.Namespace) -> int:
    from runtime.commands.status import warn_unfinished

    with targets.opened(options) as target:
        warn_unfinished(target)
        saved = applying.saved_plan(options)
        if saved is not None:
            return _show(_whole(target, applying.saved_change(saved, options, target), options, check=True), options)
        if options.output is None and (found := rules.change(options, target)) and rules.holds(found, target):
            return _show(rules.view(found, target), options)
        data, _, proved = applying.bundle_bytes(options, target)
        return _show(_whole(target, applying.wanted_change("apply", data, options, target, proved), options), options)


def _whole(target: targets.Target, change: Change, options: argparse.Namespace, check: bool = False) -> View:
    """The plan of a whole apply. check: it was saved, and has to fit still."""
    from runtime import apply, planning

    if check:
        apply.require_seen(target.store, target.context, change)
    view = planning.view(target.store, target.context, change)
    if view.planned is not None and view.planned.new is not None:
        foreign.tell(apply.with_devices(target.context, change.bindings, {}), view.planned.new)
    if options.output is not None and not check:
        planning.save(options.output, target.store, target.context, change, view)
    return view


def _show(view: View, options: argparse.Namespace) -> int:
    """Gives the exit status of `netc plan`."""
    from runtime import output, plan_view

    if options.json:
        output.show_json(plan_view.as_json(view))
    else:
        for text in foreign.moved(view.planned):
            print(output.paint(output.printable(f"of others: {text}"), "yellow"))
        for line in plan_view.lines(view, options.long):
            print(line)
    return 2 if view.planned and view.planned.steps else 0
