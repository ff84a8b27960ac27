"""apply: put a policy or a bundle on its devices."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.commands import outcome as outcomes
from runtime.commands import rollback, rules
from runtime.commands import target as targets
from runtime.commands.compile import add_target

if TYPE_CHECKING:
    from collections.abc import Iterable

    from runtime.apply import Change
    from runtime.outcome import Outcome


def add_options(command: argparse.ArgumentParser) -> None:
    """What `plan` and `apply` are asked alike."""
    command.add_argument("file", type=Path, metavar="POLICY|BUNDLE")
    command.add_argument("--nic", action="append", default=[], metavar="NIC=DEVICE", help="bind a nic of the policy to a device")
    add_target(command)
    targets.add_options(command)
    command.add_argument("--take-over", action="store_true",
                         help="also where another state directory installed (as where that was lost), and where somebody else's XDP program or "
                              "root qdisc is: it is kept, and `netc remove` puts it back (needs CAP_SYS_ADMIN)")  # fmt: skip


def add_parser(subparsers: Any) -> None:
    text = ("Put a policy or a bundle on its devices, all of it or nothing. A policy is compiled by a child "
            "without privileges. The same bundle again changes nothing and says so.")  # fmt: skip
    command = subparsers.add_parser("apply", help=text.split(". ")[0], description=text)
    add_options(command)
    command.add_argument(
        "--verify", action="store_true",
        help="then measure the policy's expectations over their window; a broken `else roll-back` rolls back",
    )  # fmt: skip
    command.set_defaults(run=run_apply)


def run_apply(options: argparse.Namespace) -> int:
    with targets.opened(options) as target:
        outcome = rules.apply(options, target, outcomes.reporter(options.json))
        if outcome is None:
            from runtime import apply

            data, index = bundle_bytes(options)
            change = wanted_change("apply", data, options, target)
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

    outcomes.show(outcome, "apply", json=False) if not options.json else outcomes.warn(outcome)
    findings = measure(target, windowed=True, quiet=options.json)
    if not options.json:
        show_findings(findings, as_json=False)
    back: Outcome | None = None
    if verify.rolls_back(findings):
        print("an expectation is broken: rolling back", file=sys.stderr)
        back = rollback.roll_back(target, options.json)
        outcomes.warn(back) if options.json else outcomes.show(back, "rollback", json=False)
    if options.json:
        again = outcomes.as_json(back, "rollback") if back else None
        output.show_json({**outcomes.as_json(outcome, "apply"), "verified": findings_json(findings), "rolled_back": again})
    return int(verify.failed(findings))
