"""Bundles with a right hash and a content that lies, applied in this process to a host of the test's own.

Each is refused in words, and nothing is changed, or it is installed and taken off again. What netc calls a bug of its own fails the test.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from runtime.cli import main
from runtime.lab import netns
from tests.fuzz.mutations import SMALL, bundle_bytes, content, mutated_bundle, sealed
from tests.kernel.apply import hosts
from tests.kernel.apply.hosts import Host

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces and bpf(2)")
SEEDS = range(4)
MUTANTS = 40  # a seed


@pytest.fixture
def host(make_netns: Callable[[], str], tmp_path: Path) -> Iterator[Host]:
    """wan0 and lan0, as the policies want them."""
    with hosts.host(make_netns, tmp_path) as made:
        made.run("ip", "link", "add", "lan0", "type", "veth", "peer", "name", "lan0p")
        made.run("ip", "link", "set", "lan0", "up")
        yield made


def netc(host: Host, *words: str | Path) -> tuple[int, str]:
    """The command in this process: its exit status and what it wrote on stderr."""
    out, err = io.StringIO(), io.StringIO()
    where = ["--state-dir", str(host.directory / "state"), "--bpffs", str(host.directory / "bpf")]
    with netns.enter(host.netns), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main([*map(str, words), *where])
        except SystemExit as leaving:
            status = int(str(leaving.code))
    return status, err.getvalue()


def there(host: Host) -> dict[str, Any]:
    """What an apply may leave behind."""
    link = json.loads(host.run("ip", "-d", "-j", "link"))
    return {
        "links": [(dev["ifname"], dev["qdisc"], dev.get("xdp", {}).get("prog", {}).get("id")) for dev in link],
        "nft": json.loads(host.run("nft", "-j", "list", "ruleset"))["nftables"][1:],
        "forward": host.run("sysctl", "net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"),
        "generations": sorted(path.name for path in (host.directory / "bpf").glob("gen-*")),
        "links pinned": sorted(path.name for path in (host.directory / "bpf/links").glob("*")),
    }


@pytest.mark.parametrize("seed", SEEDS)
def test_mutants(host: Host, seed: int) -> None:
    rng = random.Random(seed)
    whole = [content(bundle_bytes(name)) for name in SMALL]
    before = there(host)
    for number in range(MUTANTS):
        data = sealed(mutated_bundle(rng.choice(whole), rng))
        path = host.write(data, "mutant.bundle")
        status, said = netc(host, "apply", path, "--nic", "wan=wan0")
        told = f"mutant {number} of seed {seed}: exit {status}\n{said}"
        try:
            assert status in (0, 1) and "bug in netc" not in said and "Traceback" not in said, told
            if status:
                assert "error:" in said, told
            else:
                status, said = netc(host, "verify")
                assert "bug in netc" not in said and "Traceback" not in said, said
                status, said = netc(host, "remove")
                assert status == 0 and "error:" not in said, said
            assert there(host) == before, told
        except BaseException:
            shutil.copy(path, f"/tmp/crash-{seed}-{number}.bundle")
            raise
