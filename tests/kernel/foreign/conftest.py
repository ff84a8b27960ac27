"""One host a test, and somebody else's programs."""

from __future__ import annotations

import os
import struct
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.backends import bpf, link, xdp_netlink
from runtime.lab import netns
from tests.kernel.apply import hosts
from tests.kernel.apply.hosts import Host

PASS, DROP = 2, 1


def loaded(verdict: int = PASS, name: str = "theirs", kind: str = "xdp", attach_type: int = bpf.XDP) -> int:
    """A program of two instructions: r0 = verdict; exit."""
    code = struct.pack("=BBhi", 0xB7, 0, 0, verdict) + struct.pack("=BBhi", 0x95, 0, 0, 0)
    return bpf.load_program(kind, code, {}, name, attach_type)


def attach(host: Host, mode: str = "native", verdict: int = PASS, name: str = "theirs") -> int:
    """Somebody's program on wan0, by netlink; gives its id. Nothing but the device holds it."""
    with netns.enter(host.netns):
        program = loaded(verdict, name, attach_type=0)
        try:
            xdp_netlink.attach(link.get("wan0").ifindex, program, mode)
            return bpf.prog_info(program).id
        finally:
            os.close(program)


def on_device(host: Host) -> tuple[int, str]:
    """Program and mode of wan0's XDP hook."""
    with netns.enter(host.netns):
        seen = link.get("wan0")
    return seen.xdp_program, seen.xdp


def tc(host: Host, *lines: str) -> None:
    for line in lines:
        host.run("tc", *line.split())


def tree(host: Host) -> str:
    """wan0's qdiscs, classes and filters as tc shows them."""
    said = [host.run("tc", *what.split(), "dev", "wan0") for what in ("qdisc show", "class show", "filter show")]
    return "\n".join("\n".join(sorted(text.splitlines())) for text in said)


@pytest.fixture
def host(make_netns: Callable[[], str], tmp_path: Path) -> Iterator[Host]:
    with hosts.host(make_netns, tmp_path) as made:
        yield made


def unpinned(host: Host) -> bool:
    return not (host.directory / "bpf/foreign").exists() and not (host.directory / "state/foreign.json").exists()


def gates(host: Host) -> bool:
    return "netc-closed" in subprocess.run(["nsenter", f"--net=/run/netns/{host.netns}", "nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
