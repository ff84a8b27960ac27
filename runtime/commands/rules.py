"""plan and apply where only rules of tables have changed: asked first, since it takes a tenth of the time (runtime.rule_change)."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from runtime.commands.target import Target
    from runtime.outcome import Outcome, Report
    from runtime.plan_view import View
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


def view(found: RuleChange, target: Target) -> View:
    """The plan of a change in place, with the same look as any other."""
    from compiler.tables import changes
    from runtime import binding, plan_diff, planning, rule_change
    from runtime.plan_view import View

    store, now = target.store, found.now
    old = store.bundle(now.bundle)
    if found.is_none:
        return View(old, None)
    planned, _ = rule_change.planned(target.context._replace(devices=binding.devices(now.bindings)), found, store.record().generation + 1)
    new = changes.compose(store.bundle(found.wanted.base), found.wanted)
    entries = [entry for entry in plan_diff.differences(old, new, now.bindings) if not entry.is_carrier]
    kept = "a change of rules in place leaves it so; the next apply puts it back"
    return View(new, planned, entries, planning.drift(store, target.context, now), since=planning.since(now), kept=kept, notes=[planned.steps[0].step.text])
