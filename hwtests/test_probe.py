"""The probe on the rack's drivers: it leaves everything as it was, and what it promises of MTU, interrupts and hints is so."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

from hwtests.rack.port import Port
from hwtests.rack.requires import requires


def probed(port: Port, *words: str) -> dict[str, Any]:
    found: dict[str, Any] = port.machine.netc_json("probe", port.device, *words)
    return found


def test_asking_agrees_with_trying(port: Port) -> None:
    """What the driver declares of XDP is what it does; and the snapshots around this test show that asking changes nothing. Into a pipe goes the profile."""
    asked = yaml.safe_load(port.machine.netc("probe", port.device).out)
    assert asked["format"] == "netc-profile 1"
    for part in ("channels", "rings", "qdiscs", "classifiers", "queues", "driver", "numa"):
        assert asked[part] == port.profile[part], part
    assert {key: asked["xdp"][key] for key in ("native", "offload", "redirect", "frags")} == {
        key: port.profile["xdp"][key] for key in ("native", "offload", "redirect", "frags")}  # fmt: skip


def test_trying_leaves_everything_as_it_was(port: Port) -> None:
    """The snapshots around this test are the proof; that it was tried is asserted here."""
    tried = probed(port, "--try")["facts"]
    port.up()
    attached = tried["xdp"]["tried"].startswith("attached natively")
    assert (attached and "never run" not in tried["xdp"]["tried"]) == port.profile["xdp"]["native"]
    assert "not tried" not in tried["tried"]["evidence"]


def test_every_fact_has_its_evidence(port: Port) -> None:
    assert all(fact.get("evidence") for fact in port.profile["facts"].values())


def test_interrupts_are_the_devices_own(port: Port) -> None:
    irqs = [str(irq) for irq in port.profile["facts"]["interrupts"]["irqs"]]
    if not irqs:
        pytest.skip(f"no interrupts: {port.profile['facts']['interrupts']['evidence']}")
    table = port.machine.run("cat", "/proc/interrupts").out.splitlines()
    names = {line.split(":")[0].strip(): line.split()[-1] for line in table if ":" in line}
    assert set(irqs) <= set(names)
    receiving = [names[irq] for irq in irqs[: port.profile["facts"]["queues"]["rx"]]]
    assert not any("output" in name or "-tx-" in name for name in receiving), "those that receive come first: affinity is given in this order"


@requires("xdp.native", "xdp.max_mtu>=1")
def test_the_largest_mtu_with_xdp_is_the_largest(port: Port) -> None:
    """Native XDP goes on at the limit, and one byte above it is refused in the driver's own words."""
    before, limit = port.profile["mtu"], port.profile["xdp"]["max_mtu"]
    undo = ["ip", "link", "set", port.device, "mtu", str(before)]
    port.machine.change("ip", "link", "set", port.device, "mtu", str(limit), undo=undo)
    port.up()
    at = probed(port, "--try")
    assert at["xdp"]["native"], at["facts"]["xdp"]["tried"]
    port.machine.change("ip", "link", "set", port.device, "mtu", str(limit + 1), undo=undo)
    port.up()
    above = probed(port, "--try")
    assert not above["xdp"]["native"] and "(the driver: " in above["facts"]["xdp"]["tried"]


@requires("xdp.native")
def test_no_mtu_is_refused_where_none_is_named(port: Port) -> None:
    """A profile without a limit: native XDP goes on at 9000 bytes too, for programs aware of frags."""
    if port.profile["xdp"]["max_mtu"]:
        pytest.skip(f"there is a limit: {port.profile['xdp']['max_mtu']}")
    undo = ["ip", "link", "set", port.device, "mtu", str(port.profile["mtu"])]
    port.machine.change("ip", "link", "set", port.device, "mtu", "9000", undo=undo)
    port.up()
    found = probed(port, "--try")
    assert found["xdp"]["native"], found["facts"]["xdp"]["tried"]
