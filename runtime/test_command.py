"""test: a policy's `test` blocks on the reference interpreter and on the kernel."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from runtime.testrun import Result

DESCRIPTION = """\
Run the policy's `test` blocks twice: on the reference interpreter, and on the kernel by test runs of the very programs that would be
attached. What the kernel's stack decides (established, filter out) is sent through a throw-away lab. Nothing installed is touched.
Without root only the interpreter runs, and that is said. Exit status 1 when a step fails on either.
"""


def add_parser(subparsers: Any) -> None:
    command = subparsers.add_parser("test", help="run a policy's tests on the interpreter and the kernel", description=DESCRIPTION,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    command.add_argument("file", type=Path, metavar="POLICY")
    command.add_argument("--engine", choices=("both", "interp"), default="both", help="interp: without the kernel (both)")
    command.add_argument("--target", metavar="PROFILE", help="what the NIC can do: decides what runs where")
    command.add_argument("--json", action="store_true", help="machine-readable output")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    plan, results = _interpreter(options)
    kernel = options.engine == "both" and os.geteuid() == 0
    if kernel:
        results = [*results, *_kernel(options, plan)]
    if options.json:
        _show_json(results, kernel)
    else:
        _show(results)
        if options.engine == "both" and not kernel:
            print("not run on the kernel: that needs root", file=sys.stderr)
    return int(any(not result.held for result in results))


def _interpreter(options: argparse.Namespace) -> tuple[Any, list[Result]]:
    """The plan for the kernel, and what the interpreter made of the tests."""
    from runtime import compiler_child, testrun

    arguments = ["scenarios", str(options.file.absolute()), *compiler_child.target_option(options.target)]
    answer = compiler_child.run_child([*arguments, *(["--json"] * options.json)])
    if answer.status != 0:
        raise compiler_child.CompilerFailed("the tests were not run", answer.messages)
    sys.stderr.write(answer.messages)
    found = json.loads(answer.output)
    results = [
        testrun.Result(r["test"], r["step"], "interpreter", r["held"], r["expected"], r["got"], r["text"], r["file"], r["line"])
        for r in found["interp"]
        if r["expected"]  # not `wait`, which only moves the clock
    ]
    return found["plan"], results


def _kernel(options: argparse.Namespace, plan: Any) -> list[Result]:
    from compiler import bundle as bundles
    from runtime import compiler_child, testrun

    data = compiler_child.compile(options.file, options.target, options.json).output
    return testrun.run(bundles.decode(data), plan)


def _show(results: Sequence[Result]) -> None:
    """A line for each test and engine; every step that failed with what was expected and what came."""
    from runtime import output

    for test in dict.fromkeys(result.test for result in results):
        mine = [result for result in results if result.test == test]
        engines = list(dict.fromkeys(result.engine for result in mine))
        failed = [result for result in mine if not result.held]
        mark = output.paint("not ok", "red") if failed else output.paint("ok", "green")
        print(f"{mark}  {output.printable(test)}  ({len(mine) // len(engines)} steps on {', '.join(engines)})")
        for result in failed:
            print(output.printable(f"    {result.file}:{result.line}: {result.text}"))
            print(output.printable(f"      on {result.engine}: expected {result.expected}, got {result.got}"))
    tests = {result.test for result in results}
    failing = {result.test for result in results if not result.held}
    print(f"{len(tests) - len(failing)} of {len(tests)} tests hold" if tests else "the policy has no tests")


def _show_json(results: Sequence[Result], kernel: bool) -> None:
    from dataclasses import asdict

    from runtime import output

    output.show_json({
        "ok": all(result.held for result in results), "kernel": kernel, "steps": [asdict(result) for result in results],
    })  # fmt: skip
