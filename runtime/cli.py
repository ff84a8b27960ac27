"""The `netc` command. Only argparse is imported here; a command's own module is imported when that command is run."""

from __future__ import annotations

import argparse
import gc
import importlib
import os
import sys
from typing import NamedTuple, NoReturn

DESCRIPTION = """\
NAME
    netc - one policy file says what a NIC must let through, where flows go and what each class is owed

SYNOPSIS
    netc [--debug] COMMAND [OPTION ...]

DESCRIPTION
    A policy is compiled to a bundle (XDP programs, tc trees, nftables tables, NIC settings); a bundle is applied to devices in
    one transaction; every rule has a counter, and the counters are checked. Compiling needs no privilege and is done by a
    child without any; probing, applying and counting need root.
"""

EPILOG = """\
EXIT STATUS
    0   done (plan: nothing would change; verify: everything holds; test: all passed)
    1   refused, failed or broken; the message says what, where and what to do
    2   wrong usage; for `plan`: it worked, and something would change

FILES
    /var/lib/netc         what is installed and what was before (--state-dir)
    /sys/fs/bpf/netc      netc's maps, programs and links (--bpffs)
    /run/netc/lab/NAME    the same for a lab (--lab NAME)
    /var/cache/netc       programs that were compiled before; ~/.cache/netc of other users (XDG_CACHE_HOME)

EXAMPLES
    netc check edge.netc                              is the policy right?
    netc apply edge.netc --nic wan=ens1f0np0          compile it and put it on that device
    netc apply edge.netc --lab                        the same in the lab (netc lab up)
    netc counters                                     what each rule counted
    netc verify --window && echo good                 do the policy's expectations hold?
    netc rollback                                     back to the policy before

`netc COMMAND --help` has each command's options; `netc explain CODE` a message's page.
"""


class Command(NamedTuple):
    """A command's line in the help, and the module whose `add_parser(subparsers)` makes its parser (one may make several)."""

    name: str
    module: str
    summary: str


COMMANDS = (
    Command("compile", "runtime.commands.compile", "a policy to a bundle, or one stage of it as text"),
    Command("check", "runtime.commands.compile", "parse, check and prove a policy"),
    Command("import", "runtime.commands.imports", "a filter set of another tool to a policy"),
    Command("explain", "runtime.commands.compile", "the page of a diagnostic's code"),
    Command("test", "runtime.test_command", "run a policy's tests on the interpreter and the kernel"),
    Command("replay", "runtime.replay_command", "verdict and rule of every packet of a capture"),
    Command("bench", "runtime.commands.bench", "what judging a packet costs, in ns"),
    Command("probe", "runtime.commands.probe", "what a NIC, its driver and the kernel can do"),
    Command("plan", "runtime.commands.plan", "what an apply would change, and why; changes nothing"),
    Command("apply", "runtime.commands.apply", "put a policy or a bundle on its devices"),
    Command("confirm", "runtime.commands.confirm", "keep what `apply --confirm` put on trial"),
    Command("recover", "runtime.commands.confirm", "end a change that was cut short"),
    Command("history", "runtime.commands.history", "what was applied, and when: the numbers that rollback takes"),
    Command("rollback", "runtime.commands.rollback", "apply the bundle that was installed before"),
    Command("remove", "runtime.commands.rollback", "take everything of netc off the devices"),
    Command("status", "runtime.commands.status", "what is installed, and whether it is still there"),
    Command("counters", "runtime.commands.status", "what every rule, default and class counted"),
    Command("set", "runtime.commands.sets", "members of sets: list, add, del, replace"),
    Command("samples", "runtime.commands.samples", "packets that rules with `sample` or `log` copied"),
    Command("verify", "runtime.commands.verify", "installed, balanced and as expected? Exit status 1 when not"),
    Command("where", "runtime.commands.where", "which queue and CPU a packet comes to"),
    Command("boot", "runtime.commands.boot", "apply the last confirmed bundle, at boot"),
    Command("service", "runtime.commands.boot", "the systemd unit for netc boot: print, install"),
    Command("lab", "runtime.lab.commands", "network namespaces to try a policy in: up, down, send, status"),
    Command("rack", "runtime.commands.rack", "results of tests on hardware: report"),
)


# Commands that are done within the time that Python takes to begin and to end. They make nothing that the end of a process does not free.
QUICK = ("set",)


def main(arguments: list[str] | None = None) -> int:
    """Run one command and give its exit status; every error ends as a message, a traceback only with --debug.

    Without arguments those of this process are taken, which a quick command then ends.
    """
    words = sys.argv[1:] if arguments is None else arguments
    wanted = next((word for word in words if not word.startswith("-")), "")
    quick = arguments is None and wanted in QUICK
    if quick:
        gc.disable()
    status = _run(words, wanted)
    if quick:
        _end(status)
    return status


def _run(words: list[str], wanted: str) -> int:
    options = parser(wanted, alone=words[:1] == [wanted]).parse_args(words)
    if not options.debug:
        sys.unraisablehook = lambda _: None  # what a library's destructor complains of when the kernel refused it something: the error itself is told
    try:
        status: int = options.run(options)
        _flush()
        return status
    except BrokenPipeError:
        sys.stderr.close()  # the reader (head, less) has gone; Python would complain at exit
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        if options.debug:
            raise
        from runtime.commands.errors import show

        show(error, getattr(options, "json", False))
        from runtime.usage import USAGE_STATUS, UsageError

        return USAGE_STATUS if isinstance(error, UsageError) else 1


def _end(status: int) -> NoReturn:
    """End the process without taking its modules apart, which takes 10 ms and more."""
    try:
        sys.stderr.flush()
    finally:
        os._exit(status)


def _flush() -> None:
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OSError(error.errno, error.strerror, "standard output") from None


def parser(wanted: str, alone: bool = False) -> argparse.ArgumentParser:
    """The whole command line, with the options of `wanted` only: the other commands' modules stay unimported. alone: not even their names."""
    top = argparse.ArgumentParser(
        prog="netc",
        usage=argparse.SUPPRESS,
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    top.add_argument("--debug", action="store_true", help="show where in netc an error came from")
    top.add_argument("--version", action="version", version="netc 0.1.0")
    subparsers = top.add_subparsers(title="COMMANDS", metavar="COMMAND", required=True, prog="netc")
    module = next((command.module for command in COMMANDS if command.name == wanted), None)
    if module is not None:
        importlib.import_module(module).add_parser(subparsers)
        if alone:
            return top
    for command in COMMANDS:
        if command.name not in subparsers.choices:
            subparsers.add_parser(command.name, help=command.summary)
    return top


if __name__ == "__main__":
    raise SystemExit(main())
