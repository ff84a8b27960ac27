"""confirm, recover: how a change ends that waits for a confirmation, or whose process died."""

from __future__ import annotations

import argparse
from typing import Any

from runtime.commands import outcome as outcomes
from runtime.commands import target as targets


def add_parser(subparsers: Any) -> None:
    for name, run, text in (
        ("confirm", run_confirm, ("Keep the policy that `netc apply --confirm` put on trial. Without it the policy before is back at the deadline, "
                                  "also when no netc is alive then.")),
        ("recover", run_recover, ("End a change that was cut short: finish it where it was committed, else take it back. Every command that changes something does so "
                                  "first, and a watchdog does it by itself; a second recovery changes nothing. A policy on trial is left until its deadline.")),
    ):  # fmt: skip
        command = subparsers.add_parser(name, help=text.split(". ")[0].split(":")[0], description=text)
        targets.add_options(command)
        if name == "recover":
            command.add_argument("--wait", action="store_true", help="be the watchdog: wait for the end of a trial or of a change that is under way, and end it where nobody else does")
        command.set_defaults(run=run)


def run_confirm(options: argparse.Namespace) -> int:
    from runtime import confirm

    with targets.opened(options) as target:
        outcomes.show(confirm.confirm(target.store, target.context, outcomes.reporter(options.json)), "confirm", options.json)
    return 0


def run_recover(options: argparse.Namespace) -> int:
    from runtime import apply, output, trial, watchdog

    with targets.opened(options) as target:
        if options.wait:
            watchdog.watch(target.store, target.context)
            return 0  # what it did is in `netc status` and in the system's log
        change = apply.Change("recover", b"", {})
        try:
            with apply.changing(target.store, target.context, change) as recovered:
                words, waiting = list(recovered), ""
        except trial.OnTrialError as error:
            words, waiting = [], str(error)
    if options.json:
        output.show_json({"command": "recover", "recovered": words, "on_trial": bool(waiting)})
    else:
        print(output.printable("\n".join(words) or waiting.partition("\n")[0] or "nothing to recover: no change was cut short"))
    return 0
