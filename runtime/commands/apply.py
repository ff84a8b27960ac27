"""plan, apply, rollback, remove: what changes the devices, and what would."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.commands import rules
from runtime.commands import target as targets
from runtime.commands.compile import add_target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runtime.apply import Change
    from runtime.outcome import Outcome
    from runtime.steps import Step


def add_parser(subparsers: Any) -> None:
    for name, run, text in (
        ("plan", run_plan, ("What an apply would do, step by step, and why each intent is where it is. Changes nothing. "
                            "Exit status: 0 nothing would change, 2 something would, 1 it cannot be done.")),
        ("apply", run_apply, ("Put a policy or a bundle on its devices, all of it or nothing. A policy is compiled by a child "
                              "without privileges. The same bundle again changes nothing and says so.")),
    ):  # fmt: skip
        command = subparsers.add_parser(name, help=text.split(". ")[0].rstrip("."), description=text)
        command.add_argument("file", type=Path, metavar="POLICY|BUNDLE")
        command.add_argument("--nic", action="append", default=[], metavar="NIC=DEVICE", help="bind a nic of the policy to a device")
        add_target(command)
        targets.add_options(command)
        command.set_defaults(run=run)
        command.add_argument("--take-over", action="store_true",
                             help="also what another state directory installed here, as where that directory was lost")  # fmt: skip
        if name == "apply":
            command.add_argument(
                "--verify", action="store_true",
                help="then measure the policy's expectations over their window; a broken `else roll-back` rolls back",
            )  # fmt: skip
    for name, run, text in (
        ("rollback", run_rollback, "Apply the bundle that was installed before, as a new generation, on the devices that it was on."),
        ("remove", run_remove, "Take everything of netc off the devices. The history stays: `netc rollback` brings the policy back."),
    ):
        command = subparsers.add_parser(name, help=text.split(". ")[0].split(",")[0].rstrip("."), description=text)
        targets.add_options(command)
        command.set_defaults(run=run)


def run_plan(options: argparse.Namespace) -> int:
    from runtime import apply
    from runtime.commands.status import warn_unfinished

    with targets.opened(options) as target:
        warn_unfinished(target)
        if (found := rules.change(options, target)) and rules.holds(found, target):
            if found.is_none:
                return _show_plan(None, target.store.bundle_bytes(found.now.bundle), options.json)
            return rules.show(found, target, options.json)
        data, _ = bundle_bytes(options)
        change = wanted_change("plan", data, options, target)
        if apply.nothing_to_do(target.store, target.context, target.store.record(), change):
            return _show_plan(None, data, options.json)
        planned, _ = apply.plan_change(target.store, target.context, change)
        return _show_plan(planned, data, options.json)


def run_apply(options: argparse.Namespace) -> int:
    with targets.opened(options) as target:
        outcome = rules.apply(options, target, reporter(options.json))
        if outcome is None:
            from runtime import apply

            data, index = bundle_bytes(options)
            change = wanted_change("apply", data, options, target)
            outcome = apply.apply(target.store, target.context, change, reporter(options.json))
            if index and outcome.record.current:
                target.store.keep_index(outcome.record.current.bundle, index)
        if options.verify:
            return _verify(target, outcome, options)
        _show_outcome(outcome, "apply", options.json)
        return 0


def run_rollback(options: argparse.Namespace) -> int:
    with targets.opened(options) as target:
        _show_outcome(roll_back(target, options.json), "rollback", options.json)
        return 0


def run_remove(options: argparse.Namespace) -> int:
    from runtime import apply

    with targets.opened(options) as target:
        change = apply.Change("remove", None, {})
        _show_outcome(apply.apply(target.store, target.context, change, reporter(options.json)), "remove", options.json)
    return 0


def roll_back(target: targets.Target, as_json: bool) -> Outcome:
    """Apply the newest entry of the history that is another bundle or binding than what is installed."""
    from runtime import apply, state

    record = target.store.record()
    current = state.installed_here(record)
    before = next(
        (e for e in reversed(record.history) if current is None or (e.bundle, e.bindings) != (current.bundle, current.bindings)), None
    )
    if before is None:
        raise apply.ApplyError("there is nothing to roll back to: no other bundle was installed before")
    data = target.store.bundle_bytes(before.bundle)
    change = apply.Change("rollback", data, before.bindings)
    return apply.apply(target.store, target.context, change, reporter(as_json))


def bundle_bytes(options: argparse.Namespace) -> tuple[bytes, bytes]:
    """The bundle that the argument names or compiles to, and its index (empty: none); the compiler's warnings go to stderr."""
    from runtime import compiler_child, input_file

    is_bundle, data = input_file.read(options.file)
    if is_bundle:
        return data, b""
    made = compiler_child.compile(options.file, options.target, options.json, indexed=True)
    sys.stderr.write(made.messages)
    return made.output, made.index


def bound(nics: Iterable[str], options: argparse.Namespace, target: targets.Target) -> dict[str, str]:
    """The devices that the command line or the lab says."""
    from runtime import binding

    wanted = binding.parse(options.nic)
    if not target.lab:
        return wanted
    from runtime.lab import topology

    return {**topology.bind(list(nics)), **wanted}


def wanted_change(command: str, data: bytes, options: argparse.Namespace, target: targets.Target) -> Change:
    """The change with every nic bound: by --nic, else as the lab or the policy says."""
    from runtime import apply, binding

    bundle = apply.admitted(data)
    wanted = bound([nic.name for nic in bundle.nics], options, target)
    return apply.Change(command, data, binding.choose(bundle, wanted), options.take_over)


def _verify(target: targets.Target, outcome: Outcome, options: argparse.Namespace) -> int:
    """With --json all of it is one document: the apply's, with `verified` and `rolled_back` (null: nothing was)."""
    from runtime import output, verify
    from runtime.commands.status import findings_json, measure, show_findings

    _show_outcome(outcome, "apply", as_json=False) if not options.json else warn(outcome)
    findings = measure(target, windowed=True, quiet=options.json)
    if not options.json:
        show_findings(findings, as_json=False)
    back: Outcome | None = None
    if verify.rolls_back(findings):
        print("an expectation is broken: rolling back", file=sys.stderr)
        back = roll_back(target, options.json)
        warn(back) if options.json else _show_outcome(back, "rollback", as_json=False)
    if options.json:
        again = _outcome_json(back, "rollback") if back else None
        output.show_json({**_outcome_json(outcome, "apply"), "verified": findings_json(findings), "rolled_back": again})
    return int(verify.failed(findings))


def reporter(as_json: bool) -> Any:
    """Progress on stderr, a line a step; only what changes something or takes it back, not every check."""

    def report(what: str, step: Step) -> None:
        from runtime import output

        if what in ("do", "undo") and not as_json:
            mark = output.paint("undo ", "yellow", sys.stderr) if what == "undo" else output.paint(f"{step.phase:5}", "dim", sys.stderr)
            print(f"  {mark}  {output.printable(step.text)}", file=sys.stderr)

    return report


def warn(outcome: Outcome) -> None:
    """What was recovered and what could not be cleaned up, on stderr."""
    from runtime import output

    for text in outcome.recovered:
        output.show_warning(text)
    for left in outcome.left:
        output.show_warning(f"not cleaned up: {left.text}: {left.words}")


def _show_outcome(outcome: Outcome, command: str, as_json: bool) -> None:
    from runtime import output

    warn(outcome)
    for skipped in outcome.plan.skipped if outcome.plan else ():
        if not as_json:
            print(f"skipped  {output.printable(skipped.text)}: {output.printable(skipped.words)}")
    if as_json:
        output.show_json(_outcome_json(outcome, command))
    else:
        print(_outcome_line(outcome, command))


def _outcome_json(outcome: Outcome, command: str) -> dict[str, object]:
    import msgspec

    return {
        "command": command,
        "changed": outcome.changed,
        "generation": outcome.record.generation,
        "installed": msgspec.to_builtins(outcome.record.current),
        "steps": [p.step.text for p in outcome.plan.steps] if outcome.plan else [],
        "skipped": [{"text": s.text, "words": s.words} for s in outcome.plan.skipped] if outcome.plan else [],
        "left": [{"text": left.text, "words": left.words} for left in outcome.left],
        "recovered": list(outcome.recovered),
    }


def _outcome_line(outcome: Outcome, command: str) -> str:
    from runtime import output

    current = outcome.record.current
    if current is None:
        return "removed: nothing of netc is installed" if outcome.changed else "nothing to do: nothing of netc is installed"
    bound = ", ".join(f"{nic} on {device}" for nic, device in current.bindings.items())
    what = f"{current.policy} ({current.bundle[:12]}), generation {current.generation}, {bound}"
    return output.printable(f"{'rolled back' if command == 'rollback' else 'applied'}: {what}" if outcome.changed else f"nothing to do: {what} is installed and unchanged")


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
