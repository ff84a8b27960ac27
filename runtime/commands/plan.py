"""plan: what an apply would change, and why each intent is where it is; changes nothing."""

from __future__ import annotations

import argparse
from typing import Any

from runtime.commands import apply as applying
from runtime.commands import foreign, rules
from runtime.commands import target as targets


def add_parser(subparsers: Any) -> None:
    text = ("What an apply would do, step by step, and why each intent is where it is. Changes nothing. "
            "Exit status: 0 nothing would change, 2 something would, 1 it cannot be done.")  # fmt: skip
    command = subparsers.add_parser("plan", help=text.split(". ")[0], description=text)
    applying.add_options(command)
    command.set_defaults(run=run_plan)


def run_plan(options: argparse.Namespace) -> int:
    from runtime import apply
    from runtime.commands.status import warn_unfinished

    with targets.opened(options) as target:
        warn_unfinished(target)
        if (found := rules.change(options, target)) and rules.holds(found, target):
            if found.is_none:
                return _show_plan(None, target.store.bundle_bytes(found.now.bundle), options.json)
            return rules.show(found, target, options.json)
        data, _ = applying.bundle_bytes(options)
        change = applying.wanted_change("plan", data, options, target)
        if apply.nothing_to_do(target.store, target.context, target.store.record(), change):
            return _show_plan(None, data, options.json)
        planned, bound = apply.plan_change(target.store, target.context, change)
        if planned.new is not None:
            foreign.tell(bound, planned.new)
        return _show_plan(planned, data, options.json)


def _show_plan(planned: Any, data: bytes, as_json: bool) -> int:
    """The steps by phase, what is skipped, what is placed where and why. Gives the exit status of `netc plan`."""
    from compiler import bundle as bundles
    from runtime import output, set_differences

    bundle = bundles.decode(data)
    steps = planned.steps if planned else ()
    members = set_differences.differences(planned.old if planned else None, bundle)
    if as_json:
        output.show_json({
            "changes": bool(steps),
            "generation": planned.generation if planned else None,
            "steps": [{"phase": p.step.phase, "backend": p.backend, "text": p.step.text, "disruptive": p.step.disruptive} for p in steps],
            "skipped": [{"text": s.text, "words": s.words} for s in (planned.skipped if planned else ())],
            "sets": [{"set": d.name, "loses": d.loses, "gains": d.gains, "by_hand": d.by_hand} for d in members],
            "placements": [{"what": p.what, "stage": p.stage, "reason": p.reason, "file": p.file, "line": p.line} for p in bundle.placements],
        })  # fmt: skip
        return 2 if steps else 0
    rows = [[p.what, p.stage, p.reason, output.place(p.file, p.line)] for p in bundle.placements]
    print(output.table(["what", "where", "why", "line"], rows) + "\n")
    for item in steps:
        outage = output.paint(f"  [{output.printable(item.step.disruptive)}]", "yellow") if item.step.disruptive else ""
        print(f"{item.step.phase:5}  {item.backend:8}  {output.printable(item.step.text)}{outage}")
    for skipped in planned.skipped if planned else ():
        print(output.printable(f"skip   settings  {skipped.text}: {skipped.words}"))
    for item in members:
        print(f"set    members   {output.printable(set_differences.line(item))}")
    print(f"\n{len(steps)} steps" if steps else "nothing would change")
    return 2 if steps else 0
