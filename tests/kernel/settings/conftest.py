"""A namespace with a four-queue veth pair and a tap, and the thread of the test inside it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.backends import link
from runtime.context import Context, Device
from runtime.lab import netns as namespaces


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, capture_output=True, text=True)


@pytest.fixture
def inside(netns: str) -> Iterator[str]:
    with namespaces.enter(netns):
        queues = ("numrxqueues", "4", "numtxqueues", "4")
        ip("link", "add", "va0", *queues, "type", "veth", "peer", "name", "vb0", *queues)
        ip("tuntap", "add", "ta0", "mode", "tap")
        for device in ("va0", "vb0"):
            ip("link", "set", device, "up")
        yield netns


@pytest.fixture
def context(inside: str, tmp_path: Path) -> Context:
    devices = tuple(Device(nic, name, link.get(name).ifindex) for nic, name in (("wan", "va0"), ("tap", "ta0")))
    return Context(tmp_path, tmp_path / "bpf", devices, inside)
