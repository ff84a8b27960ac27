"""compile, check, explain: the compiler's side, always run as a child without privileges."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

STAGES = ("ir", "c", "tc", "nft", "ethtool", "plan")


def add_parser(subparsers: Any) -> None:
    compiling = subparsers.add_parser(
        "compile",
        help="a policy to a bundle, or one stage of it as text",
        description="Compile a policy to a bundle. Needs no privilege and no live system; the same input gives the same bytes.",
    )
    compiling.add_argument("file", type=Path, metavar="POLICY")
    compiling.add_argument("-o", "--output", type=Path, metavar="FILE", help="the bundle; - is stdout (POLICY with .bundle)")
    compiling.add_argument("--emit", choices=STAGES, help="print a stage instead of making a bundle")
    add_target(compiling)
    compiling.add_argument("--json", action="store_true", help="diagnostics as JSON lines on stderr")
    compiling.set_defaults(run=run_compile)
    checking = subparsers.add_parser(
        "check",
        help="is a policy right? all that compile would say",
        description="Parse a policy, check it, prove its `protect`s and compile it, without a bundle. No output when it is right.",
    )
    checking.add_argument("file", type=Path, metavar="POLICY")
    add_target(checking)
    checking.add_argument("--json", action="store_true", help="diagnostics as JSON lines on stderr")
    checking.set_defaults(run=run_check)
    explaining = subparsers.add_parser("explain", help="the page of a diagnostic's code", description="What a code means, and what to do.")
    explaining.add_argument("code", metavar="CODE", help="as in error[N012]")
    explaining.set_defaults(run=run_explain)


def add_target(parser: argparse.ArgumentParser) -> None:
    """--target of whatever compiles."""
    parser.add_argument("--target", metavar="PROFILE", help="what the NIC can do: a file of `netc probe`, or a profile that comes with netc")


def run_compile(options: argparse.Namespace) -> int:
    from runtime import compiler_child, state

    arguments = ["compile", str(options.file.absolute()), *compiler_child.target_option(options.target)]
    if options.emit:
        return _relay([*arguments, "--emit", options.emit], options)
    answer = compiler_child.compile(options.file, options.target, options.json)
    sys.stderr.write(answer.messages)
    made = answer.output
    place = options.output or options.file.with_suffix(".bundle")
    if str(place) == "-":
        sys.stdout.buffer.write(made)
    else:
        state.write_atomically(place, made, 0o644)
        print(f"{place}: {len(made):,} bytes", file=sys.stderr)
    return 0


def run_check(options: argparse.Namespace) -> int:
    from runtime import compiler_child

    return _relay(["check", str(options.file.absolute()), *compiler_child.target_option(options.target)], options)


def run_explain(options: argparse.Namespace) -> int:
    options.json = False
    return _relay(["explain", options.code], options)


def _relay(arguments: list[str], options: argparse.Namespace) -> int:
    """The child's output, messages and exit status as they are."""
    from runtime import compiler_child

    answer = compiler_child.run_child([*arguments, *(["--json"] if options.json else [])])
    sys.stdout.buffer.write(answer.output)
    sys.stderr.write(answer.messages)
    return answer.status
