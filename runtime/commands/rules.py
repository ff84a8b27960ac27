"""plan and apply where only rules of tables have changed: asked first, since it takes a tenth of the time (runtime.rule_change)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runtime.commands.target import Target
    from runtime.outcome import Outcome, Report
    from runtime.rules_found import RuleChange


def change(options: argparse.Namespace, target: Target) -> RuleChange | None:
    """What of the installed policy's rules the file changes in place; None where it has to be compiled whole, or is a bundle."""
    from runtime import input_file, lockout, rules_found
    from runtime.commands.apply import bound

    if options.take_over or input_file.read(options.file)[0]:
        return None

    def also(bindings: Mapping[str, str]) -> str:
        known = None if options.allow_lockout else lockout.guarded(target.context)
        return known.option(bindings) if known and known.touches(bindings) else ""

    found = rules_found.wanted(target.store, options.file, options.target, lambda nics: bound(nics, options, target), also)
    return None if isinstance(found, str) else found


def apply(options: argparse.Namespace, target: Target, report: Report) -> Outcome | None:
    """Put the change in force; None where there is more to apply than that."""
    found = change(options, target)
    if found is None:
        return None
    from runtime import rule_change

    try:
        return rule_change.apply_change(target.store, target.context, found, report)
    except rule_change.NotInPlaceError as error:
        from runtime import output

        for text in error.recovered:
            output.show_warning(text)
        return None


def holds(found: RuleChange, target: Target) -> bool:
    """Whether what is installed is as it was installed, as far as this change depends on it."""
    from runtime import rule_change

    return rule_change.holds(target.store, target.context, found) if found.is_none else rule_change.is_running(target.context, found)


def show(found: RuleChange, target: Target, as_json: bool) -> int:
    """The plan: the rules that leave the tables, and those that stand beside them then. Gives the exit status of `netc plan`."""
    from runtime import output, rule_change

    planned, step = rule_change.planned(target.context, found, target.store.record().generation + 1)
    if as_json:
        output.show_json({
            "changes": True, "generation": planned.generation, "skipped": [], "placements": [],
            "steps": [{"phase": step.phase, "backend": "xdp", "text": step.text, "disruptive": step.disruptive}],
        })  # fmt: skip
        return 2
    for name in found.wanted.gone:
        print(f"-  {output.printable(name)}")
    for rule in found.wanted.added:
        print(f"+  {output.printable(rule.name)}  {output.printable(rule.text)}")
    print(f"\n{step.phase:5}  {'xdp':8}  {output.printable(step.text)}\n\n1 step")
    return 2
