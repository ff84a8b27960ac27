"""probe: what a NIC, its driver and the kernel can do, as a capability profile for `--target`."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from runtime.commands import target as targets


def add_parser(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "probe", help="what a NIC, its driver and the kernel can do",
        description="Ask a device, its driver and the kernel what they can do. The answer is a capability profile (YAML) for --target; "
                    "each fact carries its evidence. On a terminal a summary is shown; into a file or a pipe goes the profile.",
        epilog="--try does for a moment what there is no query for, and takes it back: a program that passes every packet is attached natively (and on the "
               "NIC, where it can; arrays are made in its memory), hash fields are written as they are, RSS contexts are made, and flow rules between documentation addresses are put "
               "into the NIC. Many drivers set up their queues or the whole port anew when XDP goes on and off: igb is without carrier for about 2 s each time, "
               "i40e, ice, ixgbe, mlx5 and vmxnet3 reset rings or port. Do it where no traffic hangs on the device.",
    )  # fmt: skip
    command.add_argument("device", metavar="DEV")
    command.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the profile here")
    command.add_argument("--try", dest="attempt", action="store_true", help="also what has no query: interrupts the traffic of many NICs, see below")
    targets.add_options(command)
    command.set_defaults(run=run_probe)


def run_probe(options: argparse.Namespace) -> int:
    from runtime import output, state
    from runtime.probe import probe

    with targets.opened(options) as target:
        found = probe(target.context, options.device, attempt=options.attempt)
    if options.output:
        state.write_atomically(options.output, _yaml(found).encode(), 0o644)
    if options.json:
        output.show_json(found)
    elif sys.stdout.isatty():
        from runtime.probe import view

        print(view.shown(found, options.device))
    elif not options.output:
        print(_yaml(found), end="")
    return 0


def _yaml(found: dict[str, Any]) -> str:
    import yaml

    text: str = yaml.safe_dump(found, sort_keys=False, allow_unicode=False, width=160)
    return text
