"""Probing real devices: what is there, what is refused in which words, and that the answer is a profile."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from compiler import profile
from runtime import probe
from runtime.backends import bpf, link
from runtime.context import Context
from runtime.lab import netns as namespaces
from runtime.steps import StepError


@pytest.fixture
def context(netns: str, tmp_path: Path) -> Iterator[Context]:
    with namespaces.enter(netns):
        for words in ("link add va0 numrxqueues 2 numtxqueues 2 type veth peer name vb0", "tuntap add ta0 mode tap", "link set va0 up"):
            subprocess.run(["ip", *words.split()], check=True)
        yield Context(tmp_path, tmp_path / "bpf", (), netns)


@pytest.mark.parametrize(("device", "driver"), [("va0", "veth"), ("ta0", "tun"), ("lo", "")])
def test_the_answer_is_a_profile(context: Context, device: str, driver: str) -> None:
    found = probe.probe(context, device)
    file = context.state / "nic.yaml"
    file.write_text(yaml.safe_dump(found, sort_keys=False))
    read = profile.load(file)
    assert read.driver == driver and read.cpus >= 1 and read.kernel
    assert read.facts == yaml.safe_load(file.read_text())["facts"]
    json.dumps(found)


def test_every_fact_has_its_evidence_in_the_devices_words(context: Context) -> None:
    facts = probe.probe(context, "va0")["facts"]
    assert all(fact.get("evidence") for fact in facts.values())
    assert facts["ring"] == {"supported": False, "evidence": "ETHTOOL_MSG_RINGS_GET: Operation not supported"}
    assert facts["ntuple"] == {"supported": False, "evidence": "ETHTOOL_GRXCLSRLALL: Operation not supported"}
    assert facts["channels"]["most"] == {"rx": 2, "tx": 2}
    assert facts["features"]["rx-lro"] == "off [fixed]" and facts["features"]["rx-gro"] == "off"
    assert facts["qdiscs"]["pfifo"] == "yes"


def test_the_answer_is_json_too(context: Context) -> None:
    found = probe.probe(context, "va0")
    assert json.loads(json.dumps(found)) == found
    assert len(found["facts"]["link"]["address"].split(":")) == 6


def test_veth_has_native_xdp_and_loopback_has_not(context: Context) -> None:
    assert probe.probe(context, "va0")["xdp"]["native"] is True
    assert probe.probe(context, "lo")["xdp"]["native"] is False


def test_trying_native_xdp_leaves_nothing_attached(context: Context) -> None:
    found = probe.probe(context, "va0", attempt=True)
    assert found["facts"]["xdp"]["tried"] == "attached natively, and taken off again"
    assert link.get("va0").xdp_program == 0


def test_native_xdp_that_is_attached_is_not_denied_by_a_trial_that_cannot_be(context: Context) -> None:
    """The profile once said `native: false` of a device on which netc's own policy ran natively."""
    program = bpf.load_program("xdp", bytes.fromhex("b7000000020000009500000000000000"), {}, "nt_pass", bpf.XDP)  # r0 = XDP_PASS; exit
    attached = bpf.link_create(program, link.get("va0").ifindex, bpf.XDP, bpf.XDP_FLAGS_DRV)
    try:
        found = probe.probe(context, "va0", attempt=True)
    finally:
        os.close(attached)
        os.close(program)
    assert found["facts"]["xdp"]["tried"].startswith("not tried")
    assert found["xdp"]["native"] is True and found["xdp"]["metadata"] is True


def test_trying_where_the_driver_refuses_says_so(context: Context) -> None:
    found = probe.probe(context, "lo", attempt=True)
    assert found["xdp"]["native"] is False and "attach" in found["facts"]["xdp"]["tried"]


def test_no_such_device(context: Context) -> None:
    with pytest.raises(StepError, match="probing absent0: No such device"):
        probe.probe(context, "absent0")
