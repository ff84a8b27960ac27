"""apply: put a policy or a bundle on its devices."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.commands import outcome as outcomes
from runtime.commands import rollback, rules
from runtime.commands import target as targets
from runtime.commands.compile import add_target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runtime.apply import Change
    from runtime.lockout import Guarded
    from runtime.outcome import Outcome
    from runtime.plan_file import Saved


def add_options(command: argparse.ArgumentParser) -> None:
    """What `plan` and `apply` are asked alike."""
    command.add_argument("file", type=Path, metavar="POLICY|BUNDLE|PLAN", help="a policy, a compiled bundle, or a plan saved by `netc plan -o`")
    command.add_argument("--nic", action="append", default=[], metavar="NIC=DEVICE", help="bind a nic of the policy to a device")
    add_target(command)
    targets.add_options(command)
    command.add_argument("--take-over", action="store_true",
                         help="also where another state directory installed (as where that was lost), and where somebody else's XDP program or "
                              "root qdisc is: it is kept, and `netc remove` puts it back (needs CAP_SYS_ADMIN)")  # fmt: skip
    targets.add_lockout(command)


def add_parser(subparsers: Any) -> None:
    text = ("Put a policy or a bundle on its devices, all of it or nothing. A policy is compiled by a child "
            "without privileges. The same bundle again changes nothing and says so.")  # fmt: skip
    command = subparsers.add_parser("apply", help=text.split(". ")[0], description=text)
    add_options(command)
    targets.add_allow_disruptive(command)
    command.add_argument(
        "--verify", action="store_true",
        help="then measure the policy's expectations over their window; a broken `else roll-back` rolls back",
    )  # fmt: skip
    command.add_argument(
        "--confirm", metavar="TIME",
        help="keep it only if `netc confirm` comes within TIME (60s, 5m); else the policy before is back then, whatever has died",
    )  # fmt: skip
    command.set_defaults(run=run_apply)


def run_apply(options: argparse.Namespace) -> int:
    seconds = _seconds(options.confirm)
    with targets.opened(options) as target:
        saved = saved_plan(options)
        outcome = None if seconds or saved else rules.apply(options, target, outcomes.reporter(options.json))
        if outcome is None:
            from runtime import apply

            data, index, proved = bundle_bytes(options, target) if saved is None else (b"", b"", None)
            change = wanted_change("apply", data, options, target, proved) if saved is None else saved_change(saved, options, target)
            change = replace(change, trial=seconds)
            outcome = apply.apply(target.store, target.context, change, outcomes.reporter(options.json))
            if outcome.plan and outcome.plan.new:
                from runtime.commands import foreign

                foreign.tell(apply.with_devices(target.context, change.bindings, {}), outcome.plan.new, warnings_only=True)
            if index and outcome.record.current:
                target.store.keep_index(outcome.record.current.bundle, index)
        if options.verify:
            return _verify(target, outcome, options)
        outcomes.show(outcome, "apply", options.json)
        return 0


def _seconds(text: str | None) -> float:
    """How long a trial is; 0.0 for none. Raises UsageError."""
    if text is None:
        return 0.0
    from compiler.tables import durations
    from runtime import trial
    from runtime.usage import UsageError

    try:
        seconds = durations.nanoseconds(text) / 1e9
    except ValueError as error:
        raise UsageError(f"--confirm: {error}") from None
    if not trial.LEAST <= seconds <= trial.MOST:
        raise UsageError(f"--confirm {text}: from {trial.LEAST:g}s to {trial.MOST / 3600:g}h")
    return seconds


def bundle_bytes(options: argparse.Namespace, target: targets.Target) -> tuple[bytes, bytes, Guarded | None]:
    """The bundle that the argument names or compiles to, its index (empty: none), and the connection that it is proved to leave alone, if it was.

    The compiler's warnings go to stderr.
    """
    from runtime import binding, compiler_child, input_file, lockout

    is_bundle, data = input_file.read(options.file)
    if is_bundle:
        return data, b"", None
    bindings = binding.parse(options.nic)
    known = None if options.allow_lockout or target.lab else lockout.guarded(target.context)  # a lab's devices are not the policy's
    also = known.option(bindings) if known else ""
    made = compiler_child.compile(options.file, options.target, options.json, indexed=True, also=also)
    sys.stderr.write(made.messages)
    return made.output, made.index, known


def saved_plan(options: argparse.Namespace) -> tuple[Saved, bytes] | None:
    """The plan that the argument names; None where it is no plan. Raises PlanFileError, UsageError."""
    from runtime import input_file

    data = input_file.read_plan(options.file)
    if not data:
        return None
    from runtime import plan_file
    from runtime.usage import UsageError

    if options.nic or options.target or options.take_over or getattr(options, "output", None):
        raise UsageError(f"{options.file} is a saved plan: it has its devices, its target and its rights; make another one to change them")
    try:
        return plan_file.decode(data)
    except plan_file.PlanFileError as error:
        raise plan_file.PlanFileError(f"{options.file}: {error}") from None


def saved_change(saved: tuple[Saved, bytes], options: argparse.Namespace, target: targets.Target) -> Change:
    """The change that a plan was saved of."""
    from runtime import apply, binding

    header, data = saved
    bundle = apply.admitted(data)
    change = apply.Change("apply", data, binding.choose(bundle, header.bindings), header.take_over, seen=header.live)
    return _allowed(change, options)


def _allowed(change: Change, options: argparse.Namespace) -> Change:
    """The change with what the command line says besides the policy. A plan interrupts nothing, so it is not asked whether it may."""
    disruptive = getattr(options, "allow_disruptive", False)
    return replace(change, allow_lockout=options.allow_lockout, allow_disruptive=disruptive, as_json=options.json)


def bound(nics: Iterable[str], options: argparse.Namespace, target: targets.Target) -> dict[str, str]:
    """The devices that the command line or the lab says."""
    from runtime import binding

    wanted = binding.parse(options.nic)
    if not target.lab:
        return wanted
    from runtime.lab import topology

    return {**topology.bind(list(nics)), **wanted}


def wanted_change(command: str, data: bytes, options: argparse.Namespace, target: targets.Target, proved: Guarded | None = None) -> Change:
    """The change with every nic bound: by --nic, else as the lab or the policy says. proved: what the bundle is proved to leave alone."""
    from runtime import apply, binding

    bundle = apply.admitted(data)
    wanted = bound([nic.name for nic in bundle.nics], options, target)
    change = apply.Change(command, data, binding.choose(bundle, wanted), options.take_over, proved=proved)
    return _allowed(change, options)


def _verify(target: targets.Target, outcome: Outcome, options: argparse.Namespace) -> int:
    """With --json all of it is one document: the apply's, with `verified` and `rolled_back` (null: nothing was)."""
    from runtime import output, verify
    from runtime.commands.verify import findings_json, measure, show_findings

    outcomes.show(outcome, "apply", json=False) if not options.json else outcomes.warn(outcome)
    findings = measure(target, windowed=True, quiet=options.json)
    if not options.json:
        show_findings(findings, as_json=False)
    back: Outcome | None = None
    if verify.rolls_back(findings):
        print("an expectation is broken: rolling back", file=sys.stderr)
        back = rollback.roll_back(target, options.json, allow_lockout=True, allow_disruptive=True)  # it was in force while you were connected
        outcomes.warn(back) if options.json else outcomes.show(back, "rollback", json=False)
    if options.json:
        again = outcomes.as_json(back, "rollback") if back else None
        output.show_json({**outcomes.as_json(outcome, "apply"), "verified": findings_json(findings), "rolled_back": again})
    return int(verify.failed(findings))
