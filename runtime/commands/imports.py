"""import: another tool's rules as a policy. The compiler's child reads the file; the policy is text, checked before it is handed out."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Read a ClassBench filter set (.gz too) and write a policy with the same rules in the same order. Rules are named by their number in the
file (r1, r2, ...). Filter sets have no verdicts: every filter passes, the default drops. A filter that asks for ports of a protocol that
has none is met by no packet and becomes a comment; some sets number their protocols anew: --protocol 7=tcp says what they stand for.
The policy is checked before it is written.
"""


def add_parser(subparsers: Any) -> None:
    command = subparsers.add_parser("import", help="a filter set of another tool to a policy", description=DESCRIPTION,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    command.add_argument("format", choices=("classbench",), help="what the file is")
    command.add_argument("file", type=Path, metavar="FILE")
    command.add_argument("-o", "--output", type=Path, metavar="POLICY", help="where to (stdout)")
    command.add_argument("--nic", default="port", metavar="NAME", help="the nic's name in the policy (port)")
    command.add_argument("--device", default="eth0", metavar="DEVICE", help="its device (eth0)")
    add_protocol(command)
    command.set_defaults(run=run)


def add_protocol(parser: argparse.ArgumentParser) -> None:
    """--protocol of whatever reads filter sets."""
    parser.add_argument("--protocol", action="append", default=[], metavar="N=NAME",
                        help="the set's protocol N stands for NAME or a number; may be repeated")  # fmt: skip


def run(options: argparse.Namespace) -> int:
    from runtime import state

    text = policy_of(options.file, options.protocol, options.nic, options.device)
    with tempfile.TemporaryDirectory(prefix="netc-import-") as directory:
        _check(Path(directory) / "imported.netc", text)
    if options.output is None or str(options.output) == "-":
        sys.stdout.buffer.write(text)
    else:
        state.write_atomically(options.output, text, 0o644)
    return 0


def policy_of(file: Path, protocols: list[str], nic: str, device: str) -> bytes:
    """The policy's text. Raises CompilerFailed with the line that cannot be imported."""
    from runtime import compiler_child

    replaced = [word for protocol in protocols for word in ("--protocol", protocol)]
    answer = compiler_child.run_child(["import", "classbench", str(file.absolute()), "--nic", nic, "--device", device, *replaced])
    if answer.status != 0:
        raise compiler_child.CompilerFailed(f"{file} was not imported", answer.messages)
    return answer.output


def _check(place: Path, text: bytes) -> None:
    """What is handed out compiles; a nic or device name of the command line that cannot be is found here."""
    from runtime import compiler_child, state

    state.write_atomically(place, text)
    answer = compiler_child.run_child(["check", str(place)])
    if answer.status != 0:
        raise compiler_child.CompilerFailed("the imported policy does not hold", answer.messages)
