"""probe: what a NIC, its driver and the kernel can do, as a capability profile for `--target`."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from runtime.commands import target as targets


def add_parser(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "probe", help="what a NIC, its driver and the kernel can do",
        description="Ask a device, its driver and the kernel what they can do. The answer is a capability profile (YAML) for --target; "
                    "each fact carries its evidence.",
    )  # fmt: skip
    command.add_argument("device", metavar="DEV")
    command.add_argument("-o", "--output", type=Path, metavar="FILE", help="write the profile here instead of on stdout")
    command.add_argument("--try", dest="attempt", action="store_true", help="also attach a program that passes everything, to see native XDP work")
    targets.add_options(command)
    command.set_defaults(run=run_probe)


def run_probe(options: argparse.Namespace) -> int:
    import yaml

    from runtime import output, state
    from runtime.probe import probe

    with targets.opened(options) as target:
        found = probe(target.context, options.device, attempt=options.attempt)
    if options.json:
        output.show_json(found)
        return 0
    text = yaml.safe_dump(found, sort_keys=False, allow_unicode=False)
    if options.output:
        state.write_atomically(options.output, text.encode(), 0o644)
    else:
        print(text, end="")
    return 0
