"""history: what was applied, when and by which command; each number can be rolled back to."""

from __future__ import annotations

import argparse
import time
from typing import TYPE_CHECKING, Any

from runtime.commands import target as targets

if TYPE_CHECKING:
    from runtime.history import Entry


def add_parser(subparsers: Any) -> None:
    text = ("What was applied on this host, the newest first: number, when, by which command, policy, bundle, devices. `netc rollback NUMBER` goes back to "
            "one. The last ten before the installed one are kept; a policy on trial is not among them until it is confirmed.")  # fmt: skip
    command = subparsers.add_parser("history", help="what was applied, and when: the numbers that rollback takes", description=text)
    targets.add_options(command)
    command.set_defaults(run=run_history)


def run_history(options: argparse.Namespace) -> int:
    from runtime import history, output

    with targets.opened(options) as target:
        entries = history.entries(target.store)
    if options.json:
        output.show_json({"history": [history.as_json(entry) for entry in entries]})
    elif not entries:
        print("nothing was ever applied")
    else:
        heads = ["number", "when", "by", "policy", "bundle", "nics", "state"]
        print(output.table(heads, [_row(entry) for entry in entries], right=(0,)))
    return 0


def _row(entry: Entry) -> list[str]:
    at = entry.installed
    when = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(at.when))
    nics = ", ".join(f"{nic} on {device}" for nic, device in at.bindings.items())
    return [str(at.number), when, at.command or "?", at.policy, at.bundle[:12], nics, entry.state]
