"""One host a test, and what a reboot does to it."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.backends import bpf
from tests.kernel import reduced
from tests.kernel.apply import hosts
from tests.kernel.apply.hosts import Host

BEFORE = "11111111-2222-3333-4444-555555555555"
QUEUES = ["numrxqueues", "4", "numtxqueues", "4"]


def reboot(host: Host, device: str = "wan0") -> None:
    """What the kernel forgets: pins, rules, devices. What the disk remembers is of another boot."""
    subprocess.run(["umount", host.directory / "bpf"], check=False, capture_output=True)
    host.run("nft", "flush", "ruleset")
    host.run("ip", "link", "del", "wan0")
    for path in (host.directory / "state").glob("*.json*"):
        path.write_text(re.sub(r'("boot": ?)"[0-9a-f-]{36}"', rf'\1"{BEFORE}"', path.read_text()))
    if device:
        plug(host, device)
    if reduced.ON:
        bpf.mount_bpffs(host.directory / "bpf")


def plug(host: Host, device: str = "wan0") -> None:
    """The device comes, with addresses that do not ask around first."""
    host.run("ip", "link", "add", device, *QUEUES, "type", "veth", "peer", "name", "wan0p", *QUEUES, "netns", host.peer)
    host.run("ip", "addr", "add", "192.0.2.1/24", "dev", device)
    host.run("ip", "link", "set", device, "up")
    subprocess.run(["ip", "-n", host.peer, "addr", "add", "192.0.2.2/24", "dev", "wan0p"], check=True)
    subprocess.run(["ip", "-n", host.peer, "link", "set", "wan0p", "up"], check=True)


def knock(host: Host, port: int) -> bool:
    """Does a TCP connection from the peer get an answer (a listener accepts, or the kernel refuses), or is it dropped?"""
    script = f"import socket; s = socket.socket(); s.settimeout(0.4)\ntry: s.connect(('192.0.2.1', {port}))\nexcept TimeoutError: print('dropped')\nexcept OSError: pass"
    done = subprocess.run(["nsenter", f"--net=/run/netns/{host.peer}", "python3", "-c", script], capture_output=True, text=True, check=True)
    return "dropped" not in done.stdout


def record(host: Host) -> dict[str, object]:
    found: dict[str, object] = json.loads((host.directory / "state/state.json").read_text())
    return found


@pytest.fixture
def host(make_netns: Callable[[], str], tmp_path: Path) -> Iterator[Host]:
    with hosts.host(make_netns, tmp_path) as made:
        yield made
