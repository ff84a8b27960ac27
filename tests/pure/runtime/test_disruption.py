"""Which steps interrupt a device's traffic, and which have to be asked for: by the driver, and asked for where it is not known."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler.bundle import Code
from runtime import disruption
from runtime.context import Context, Device
from runtime.plan import Planned
from runtime.steps.xdp_attach import AttachStep, DetachStep

CONTEXT = Context(Path("/nowhere"), Path("/nowhere"), (Device("wan", "no-such-dev0", 7),))
XDP = Code("wan.xdp", "wan", "xdp", b"", ())


@pytest.mark.parametrize(
    ("kind", "driver", "told", "asks"),
    [
        ("xdp", "veth", False, False), ("xdp", "igb", True, True), ("xdp", "virtio_net", True, True), ("xdp", "", True, True), ("xdp", "mlx5_core", True, True),
        ("channels", "veth", False, False), ("channels", "igb", True, True), ("ring", "mlx5_core", True, True), ("ring", "vmxnet3", True, True),
        ("pause", "e1000e", True, True), ("priv-flag", "i40e", True, True), ("feature", "igb", True, True), ("feature", "veth", False, False),
        ("root", "veth", True, False), ("root", "mlx5_core", True, False),
    ],
)  # fmt: skip
def test_by_driver(kind: str, driver: str, told: bool, asks: bool) -> None:
    found = disruption.expected(kind, driver)
    assert bool(found.words) == told and found.asks == asks and (found.source or not told)


@pytest.mark.parametrize("step", [AttachStep(CONTEXT, XDP, 1, "native", False), DetachStep(CONTEXT, XDP, "native")], ids=["attach", "detach"])
def test_a_driver_that_is_not_known_is_asked_for(step: AttachStep | DetachStep) -> None:
    (item,) = disruption.found([Planned("xdp", step)])
    assert item.device == "no-such-dev0" and item.outage.asks
    with pytest.raises(disruption.DisruptiveError) as refused:
        disruption.require([Planned("xdp", step)], allowed=False)
    assert step.text in str(refused.value) and "--allow-disruptive" in str(refused.value) and "nothing was changed" in str(refused.value)
    disruption.require([Planned("xdp", step)], allowed=True)


@pytest.mark.parametrize(
    "step",
    [
        AttachStep(CONTEXT, XDP, 2, "native", True), AttachStep(CONTEXT, XDP, 1, "generic", False), DetachStep(CONTEXT, XDP, "generic"),
        AttachStep(CONTEXT, Code("wan.tcx_egress", "wan", "tcx_egress", b"", ()), 1, "", False),
    ],
)  # fmt: skip
def test_what_touches_no_driver_is_not(step: AttachStep | DetachStep) -> None:
    assert disruption.found([Planned("xdp", step)]) == []
    disruption.require([Planned("xdp", step)], allowed=False)
