"""bench: ns per packet of a policy's XDP program, checked before it is timed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

DESCRIPTION = """\
Measure what judging a packet costs: the policy's XDP program on test runs in the kernel, over 1 to 65536 flows that hit rules, miss all of
them, or go through to the last rule that can be reached; beside it the floor (a program that only parses) and, with --by-hand, C that
somebody wrote for the same policy. Nothing is attached and no device is touched.

First every flow is judged once and compared with the interpreter (big policies: with a linear oracle); a wrong one ends the measurement.
Then batches of about 20 ms are timed by the wall clock, every program in turn on one CPU; differences and ratios are taken within rounds.
Needs root. Numbers are worth comparing within one run only.
"""
FLOWS = "1,256,4096,65536"
FLOWS_MAX = 65536


def add_parser(subparsers: Any) -> None:
    command = subparsers.add_parser("bench", help="what judging a packet costs, in ns", description=DESCRIPTION,
                                    formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    what = command.add_mutually_exclusive_group(required=True)
    what.add_argument("policy", nargs="?", type=Path, metavar="POLICY")
    what.add_argument("--classbench", type=Path, metavar="FILE", help="a filter set, as `netc import classbench` reads it")
    what.add_argument("--prefixes", type=Path, metavar="FILE", help="a list of prefixes, one a line (.gz too), as one set")
    command.add_argument("--first", type=_positive, default=0, metavar="N", help="only the first N filters or prefixes")
    command.add_argument("--flows", type=_flows, default=_flows(FLOWS), metavar="LIST", help=f"powers of two up to {FLOWS_MAX} ({FLOWS})")
    command.add_argument("--seconds", type=_seconds, default=0.5, metavar="S", help="for each program and number of flows (0.5)")
    command.add_argument("--batch", type=_seconds, default=0.02, metavar="S", help="how long a batch shall take (0.02)")
    command.add_argument("--by-hand", type=Path, metavar="FILE.c", help="the same policy in C (see bench/README.md): checked and measured beside it")
    command.add_argument("--pieces", action="store_true", help="measure parts of netc's program by themselves, too: where the time goes")
    command.add_argument("--nft", action="store_true", help="the same filter on nftables' netdev ingress, on live frames in a namespace of its own")
    command.add_argument("--iptables", action="store_true", help="the same rules in iptables' raw table, on the same frames")
    command.add_argument("--xdp-filter", action="store_true", help="the same lists in xdp-filter, where single addresses and ports are all there is")
    command.add_argument("--peers", action="store_true", help="all three, where they are installed")
    command.add_argument("--nic", default="", help="the policy's nic to measure (the first that XDP filters)")
    command.add_argument("--seed", type=int, default=1, help="of the flows (1)")
    command.add_argument("--plot", type=Path, metavar="FILE.svg", help="draw ns per packet by number of flows")
    command.add_argument("--target", metavar="PROFILE", help="what the NIC can do: decides what XDP judges")
    command.add_argument("--json", action="store_true", help="one JSON document")
    _add_protocol(command)
    command.set_defaults(run=run)


def _add_protocol(command: argparse.ArgumentParser) -> None:
    from runtime.commands.imports import add_protocol

    add_protocol(command)


def run(options: argparse.Namespace) -> int:
    from compiler.tables import flows
    from runtime import output
    from runtime.bench import plot, report
    from runtime.bench import run as bench

    material = flows.decode(_material(options))
    say = _say if sys.stderr.isatty() else lambda words: None
    results = bench.run(material, options.flows, options.seconds, options.batch, say, _peers(options))
    name = str(options.policy or options.classbench or options.prefixes)
    if options.json:
        output.show_json(report.as_json(results, name))
    else:
        print(report.text(results, name))
    if options.plot:
        from runtime import state

        state.write_atomically(options.plot, plot.svg(results, name).encode(), 0o644)
    return 0


def _material(options: argparse.Namespace) -> bytes:
    from runtime import compiler_child

    kind = "policy" if options.policy else "classbench" if options.classbench else "prefixes"
    file = options.policy or options.classbench or options.prefixes
    words = ["bench", str(file.absolute()), "--as", kind, "--flows", str(max(options.flows)), "--first", str(options.first)]
    words += ["--nic", options.nic, "--seed", str(options.seed), *compiler_child.target_option(options.target)]
    words += [word for protocol in options.protocol for word in ("--protocol", protocol)]
    words += ["--by-hand", str(options.by_hand.absolute())] if options.by_hand else []
    words += ["--pieces"] * options.pieces + ["--json"] * options.json
    words += [word for peer in _peers(options) for word in (["--nft"] if peer == "nft" else ["--peer", peer])]
    answer = compiler_child.run_child(words)
    if answer.status != 0:
        raise compiler_child.CompilerFailed(f"{file} cannot be measured", answer.messages)
    sys.stderr.write(answer.messages)
    return answer.output


def _say(words: str) -> None:
    print(f"{words} …", file=sys.stderr)


def _peers(options: argparse.Namespace) -> list[str]:
    """The other tools that are asked for."""
    return [peer for peer in ("nft", "iptables", "xdp-filter") if options.peers or getattr(options, peer.replace("-", "_"))]


def _flows(text: str) -> tuple[int, ...]:
    try:
        counts = tuple(sorted({int(word) for word in text.split(",")}))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of numbers") from None
    for count in counts:
        if count < 1 or count > FLOWS_MAX or count & (count - 1):
            raise argparse.ArgumentTypeError(f"{count} is not a power of two from 1 to {FLOWS_MAX}")
    return counts


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0.0001 <= value <= 600:
        raise argparse.ArgumentTypeError(f"{text!r} is no time from 0.0001 to 600 s")
    return value


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no number above 0")
    return int(text)
