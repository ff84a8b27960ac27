"""replay: the verdict and rule of every packet of a capture, from the interpreter or from the kernel, in the same words."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compiler.bundle import Bundle
    from runtime.replay import Judged

DESCRIPTION = """\
Judge every packet of a pcap or pcapng file of Ethernet frames as the XDP stage does, and print its number, verdict, rule and bytes.
Time is the capture's: limits and timeouts see its stamps. Both engines print the same bytes:
  interp   the reference interpreter, which defines the language; needs no privilege
  xdp      the very program that `netc apply` would attach, by a test run in the kernel; nothing is attached; needs root
A packet that a later stage judges (connection tracking) is `handed-on`; a frame under 14 bytes is `refused`.
"""


def add_parser(subparsers: Any) -> None:
    command = subparsers.add_parser("replay", help="verdict and rule of every packet of a capture", description=DESCRIPTION,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    command.add_argument("file", type=Path, metavar="POLICY|BUNDLE", help="a bundle can be replayed by xdp only")
    command.add_argument("capture", type=Path, metavar="CAPTURE")
    command.add_argument("--engine", choices=("interp", "xdp"), default="interp", help="who judges (interp)")
    command.add_argument("--nic", default="", help="the nic that the packets come in by (the first that XDP filters)")
    command.add_argument("--target", metavar="PROFILE", help="what the NIC can do: decides what XDP judges")
    command.add_argument("--summary", action="store_true", help="only the sums for each rule")
    command.add_argument("--json", action="store_true", help="one JSON object a packet (with --summary: a rule), one a line")
    command.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    from runtime import apply, compiler_child, input_file, replay

    is_bundle, data = input_file.read(options.file)
    if is_bundle and options.engine == "interp":
        raise replay.ReplayError(f"{options.file} is a bundle: the interpreter reads policies; replay it with --engine xdp")
    if not is_bundle:
        made = compiler_child.compile(options.file, options.target, options.json)
        sys.stderr.write(made.messages)
        data = made.output
    bundle = apply.admitted(data)
    nic = replay.nic_of(bundle, options.nic)
    _show(_by_kernel(bundle, nic, options) if options.engine == "xdp" else _by_interpreter(nic, options), options)
    return 0


def _by_kernel(bundle: Bundle, nic: str, options: argparse.Namespace) -> Iterator[Judged]:
    from compiler.tables import capture
    from runtime import replay

    if os.geteuid() != 0:
        raise replay.ReplayError("the kernel's engine needs root (CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON as uid 0)\n"
                                 "  = help: run it as root, or let the interpreter judge: --engine interp")  # fmt: skip
    return replay.replay(bundle, nic, capture.on_the_clock(capture.read(options.capture)))


def _by_interpreter(nic: str, options: argparse.Namespace) -> Iterator[Judged]:
    from runtime import compiler_child
    from runtime.replay import Judged

    arguments = ["interp", str(options.file.absolute()), str(options.capture.absolute()), "--nic", nic]
    answer = compiler_child.run_child([*arguments, *compiler_child.target_option(options.target), *(["--json"] * options.json)])
    if answer.status != 0:
        raise compiler_child.CompilerFailed("the capture was not replayed", answer.messages)
    return (Judged(**json.loads(text)) for text in answer.output.splitlines())


def _show(judged: Iterable[Judged], options: argparse.Namespace) -> None:
    from runtime import replay

    if options.summary:
        lines: Iterable[str] = replay.summary(judged, options.json)
    else:
        lines = map(replay.json_line if options.json else replay.line, judged)
    for text in lines:
        sys.stdout.write(text + "\n")
