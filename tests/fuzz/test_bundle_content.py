"""Bundles with a right hash and a content that lies: read in volume; what is taken for a bundle is applied to a host of the test's own.

Each is refused in words, and nothing is changed, or it is installed and taken off again. What netc calls a bug of its own fails the test.
"""

from __future__ import annotations

import contextlib
import io
import itertools
import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from compiler.bundle import BundleError
from runtime.apply import admitted
from runtime.cli import main
from runtime.commands.errors import describe
from runtime.lab import netns
from runtime.steps import StepError
from tests.fuzz.mutations import SMALL, bundle_bytes, content, mutated_bundle, sealed
from tests.kernel.apply import hosts
from tests.kernel.apply.hosts import Host

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: network namespaces and bpf(2)")
MUTANTS = 250  # read for each seed
APPLIED = 8  # of those that are taken, for each seed


def mutants(seed: int) -> Iterator[bytes]:
    rng = random.Random(seed)
    whole = [content(bundle_bytes(name)) for name in SMALL]
    while True:
        yield sealed(mutated_bundle(rng.choice(whole), rng))


def taken(data: bytes) -> bool:
    try:
        admitted(data)
    except (BundleError, StepError) as error:
        assert str(error) and "this is a bug in netc" not in describe(error)
        return False
    return True


@pytest.mark.parametrize("name", SMALL)
def test_what_the_compiler_makes_is_taken(name: str) -> None:
    admitted(bundle_bytes(name))


@pytest.mark.parametrize("seed", range(4))
def test_mutants_are_read(seed: int) -> None:
    """Most are refused: else the mutations, or the checks, are worth nothing."""
    found = sum(taken(data) for data in itertools.islice(mutants(seed), MUTANTS))
    assert 0 < found < MUTANTS // 2


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


@needs_root
@pytest.mark.parametrize("seed", range(2))
def test_mutants_are_applied(host: Host, seed: int) -> None:
    before = there(host)
    for number, data in enumerate(itertools.islice(filter(taken, mutants(seed)), APPLIED)):
        status, said = netc(host, "apply", host.write(data, "mutant.bundle"), "--nic", "wan=wan0")
        told = f"mutant {number} of seed {seed}: exit {status}\n{said}"
        assert status in (0, 1) and "this is a bug in netc" not in said, told
        if status:
            assert "error:" in said, told
        else:
            _, read = netc(host, "verify")
            assert "this is a bug in netc" not in read, told + read
            status, removed = netc(host, "remove")
            assert status == 0 and "error:" not in removed, told + removed
        assert there(host) == before, told
