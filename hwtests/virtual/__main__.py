"""`python3 -m hwtests.virtual`: fetch the virtual rack, run a command in it, look around in it, or run the part of its tests that `.ci/run` includes."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

from hwtests.virtual import part
from hwtests.virtual.errors import RackError
from hwtests.virtual.fetch import default_cache, fetch, fetched
from hwtests.virtual.machine import AGENT, PAIRS, booted, shell


def main(arguments: list[str] | None = None) -> int:
    """Exit status: the command's own for `boot`, 0 for what worked, 1 for what did not."""
    chosen = _parser().parse_args(arguments)
    try:
        return int(chosen.work(chosen))
    except RackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m hwtests.virtual", description=__doc__)
    parser.add_argument("--cache", type=Path, default=default_cache(), help="where the rack is kept (NETC_RACK_CACHE; %(default)s)")
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("fetch", help="download, unpack and build what is missing")
    command.add_argument("--offline", action="store_true", help="only look whether all is there")
    command.set_defaults(work=_fetch)
    command = commands.add_parser("boot", help="boot, run one command in the guest, end with its exit status")
    command.add_argument("--timeout", type=float, default=600.0, help="seconds for the command (%(default)g)")
    command.add_argument("--log", type=Path, help="keep the serial console here")
    command.add_argument("--agent", type=Path, default=AGENT, help="the program that runs in the guest (%(default)s)")
    command.add_argument("words", metavar="COMMAND", nargs="+", help="after --, run in this directory")
    command.set_defaults(work=_boot)
    command = commands.add_parser("shell", help="a shell on the guest's console; `exit` powers it off")
    command.set_defaults(work=lambda chosen: shell(PAIRS, fetched(chosen.cache), Path.cwd()))
    command = commands.add_parser("part", help=f"fetch what is missing, boot, and prove each driver; exit status {part.UNAVAILABLE} where it cannot be had here")
    command.add_argument("--limit", type=float, default=part.LIMIT, help="seconds for all of it (%(default)g)")
    command.add_argument("options", metavar="OPTION", nargs="*", help="after --, for pytest")
    command.set_defaults(work=lambda chosen: part.run(chosen.cache, chosen.limit, tuple(chosen.options)))
    return parser


def _fetch(chosen: argparse.Namespace) -> int:
    start = time.monotonic()
    rack = fetch(chosen.cache, chosen.offline, lambda text: print(f"{time.monotonic() - start:6.1f} s  {text}", file=sys.stderr))
    print(f"kernel {rack.release} and QEMU are in {rack.root}")
    return 0


def _boot(chosen: argparse.Namespace) -> int:
    start = time.monotonic()
    with booted(rack=fetched(chosen.cache), log=chosen.log, agent=chosen.agent) as machine:
        print(f"booted in {time.monotonic() - start:.1f} s", file=sys.stderr)
        done = machine.run("sh", "-c", 'cd "$0" && exec "$@"', str(Path.cwd()), *chosen.words, timeout=chosen.timeout)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
