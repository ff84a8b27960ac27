"""Which host a command works on: this one, or the device under test of a lab. Shared options, shared context."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from runtime.context import Context
    from runtime.state import Store

STATE = Path("/var/lib/netc")
BPFFS = Path("/sys/fs/bpf/netc")


class TargetError(Exception):
    """The host or lab cannot be worked on. The text says what to do."""


class Target(NamedTuple):
    """Where to work: a context without devices yet. lab: its name, or ""."""

    context: Context
    lab: str

    @property
    def store(self) -> Store:
        """What is installed there. Importing what reads it strictly takes longer than a change of a set."""
        from runtime.state import Store

        return Store(self.context.state)


def add_options(parser: argparse.ArgumentParser, json: bool = True) -> None:
    """--state-dir, --bpffs, --lab and --json."""
    group = parser.add_argument_group("where")
    group.add_argument("--state-dir", type=Path, metavar="DIR", help=f"what is installed is kept here ({STATE})")
    group.add_argument("--bpffs", type=Path, metavar="DIR", help=f"netc's directory in a bpf file system ({BPFFS})")
    group.add_argument("--lab", nargs="?", const="", default=None, metavar="NAME", help="work in this lab (see `netc lab`)")
    if json:
        parser.add_argument("--json", action="store_true", help="machine-readable output")


def add_lockout(parser: argparse.ArgumentParser) -> None:
    """--allow-lockout, of every command that could cut the connection that it is run over."""
    parser.add_argument("--allow-lockout", action="store_true", help="also what is not proved to leave alone the connection that netc is run over")


def add_allow_disruptive(parser: argparse.ArgumentParser) -> None:
    """Of every command that may change a device's queues."""
    parser.add_argument("--allow-disruptive", action="store_true",
                        help="also steps that interrupt a device's traffic (channels, rings, the first XDP program on many drivers); `netc plan` names them")  # fmt: skip


@contextmanager
def opened(options: argparse.Namespace) -> Iterator[Target]:
    """Enter the lab's network namespace, if one is asked for, and give the target. Raises TargetError."""
    from runtime.context import Context

    if os.geteuid() != 0:
        raise TargetError("this command needs root (CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON as uid 0)")
    if options.lab is None:
        yield _checked(Target(Context(options.state_dir or STATE, options.bpffs or BPFFS), ""))
        return
    from runtime.lab import netns, topology

    names = topology.names(options.lab or topology.DEFAULT_NAME)
    dut = names.netns(topology.DUT)
    if not netns.exists(dut):
        raise TargetError(f"there is no lab {names.name}\n  = help: make it with: netc lab up {names.name}")
    state = options.state_dir or names.state
    with netns.enter(dut):
        yield _checked(Target(Context(state, options.bpffs or names.bpffs, netns=dut), names.name))


def _checked(target: Target) -> Target:
    """The target, whose directories are netc's alone. Raises DirectoryError."""
    from runtime import directories

    directories.check(target.context.state, "--state-dir")
    directories.check_bpffs(target.context.bpffs)
    return target
