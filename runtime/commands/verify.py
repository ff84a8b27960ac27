"""verify: is it installed, balanced and as expected, and do flows come where the policy says?"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from runtime.commands import target as targets

if TYPE_CHECKING:
    from runtime.verify import Finding


def add_parser(subparsers: Any) -> None:
    verifying = subparsers.add_parser(
        "verify", help="installed, balanced and as expected? Exit status 1 when not",
        description="Read back that everything is installed as applied, that every stage's counters add up, and that the policy's "
                    "expectations hold; with --steering also that flows come where the policy says. Exit status 1 when anything is broken (an `else warn` expectation only warns).",
    )  # fmt: skip
    verifying.add_argument("--window", action="store_true",
                           help="wait for the expectations' window and judge what happens in it, not everything since the counters began")  # fmt: skip
    verifying.add_argument("--steering", nargs="?", type=_seconds, const=5.0, default=0.0, metavar="SECONDS",
                           help="also watch what arrives for so long (5): does each flow come to the queue and the CPU that the policy says? A look at each packet "
                                "behind XDP, by a program of its own; what XDP drops or sends elsewhere is not seen")  # fmt: skip
    targets.add_options(verifying)
    verifying.set_defaults(run=run_verify)


def _seconds(text: str) -> float:
    """0.1 to 3600. Raises ValueError, which argparse tells."""
    found = float(text)
    if not 0.1 <= found <= 3600:
        raise ValueError
    return found


_seconds.__name__ = "number of seconds from 0.1 to 3600"  # how argparse names it


def measure(target: targets.Target, windowed: bool, quiet: bool, steering: float = 0.0) -> list[Finding]:
    """Everything that verify judges. windowed: expectations over their window, which is waited for. steering: seconds to watch where flows come."""
    from runtime import counters, verify
    from runtime.commands.status import installed
    from runtime.steps import StepError

    current, bundle, context = installed(target)
    before = None
    seconds = verify.window(bundle) if windowed else 0.0
    if seconds:
        before = counters.read(context, bundle)
        if not quiet:
            print(f"measuring for {seconds:g} s", file=sys.stderr)
        time.sleep(seconds)
    found = verify.drift(context, bundle, current.generation)
    whole = verify.Finding("installed", current.policy, ", ".join(current.bindings.values()), "held", "everything reads back as it was applied")
    findings = [*(found or [whole]), *verify.balance(context, bundle)]
    if steering:
        from runtime.steering import proof

        findings += proof.watch(context, bundle, steering)
    try:
        return findings + verify.expectations(bundle, before, counters.read(context, bundle))
    except StepError:  # the balance has said so already
        return findings


def run_verify(options: argparse.Namespace) -> int:
    from runtime import verify

    with targets.opened(options) as target:
        findings = measure(target, options.window, options.json, options.steering)
    show_findings(findings, options.json)
    return int(verify.failed(findings))


def show_findings(findings: Sequence[Finding], as_json: bool) -> None:
    """One line each: result, what, where, by how much."""
    from runtime import output, verify

    if as_json:
        output.show_json(findings_json(findings))
        return
    rows = [["warning" if verify.warns(f) else f.result, f.kind, f.what, _where(f.where), f.detail] for f in findings]
    print(output.table(["result", "check", "what", "where", "detail"], rows))
    broken = sum(finding.result == "broken" and not verify.warns(finding) for finding in findings)
    silent = sum(finding.result == "no traffic" for finding in findings)
    if broken:
        print(output.paint(f"\n{broken} of {len(findings)} checks {'is' if broken == 1 else 'are'} broken", "red"))
    else:
        print(f"\nnone of {len(findings)} checks is broken" + (f"; {silent} had no traffic to judge" if silent else ""))


def findings_json(findings: Sequence[Finding]) -> dict[str, object]:
    """What `verify` found, as JSON has it."""
    from dataclasses import asdict

    from runtime import verify

    return {"ok": not verify.failed(findings), "findings": [asdict(finding) for finding in findings]}


def _where(text: str) -> str:
    from runtime import output

    file, colon, line = text.rpartition(":")
    return output.place(file, int(line)) if colon and line.isdigit() else text
