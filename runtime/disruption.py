"""Which steps of a plan interrupt a device's traffic, for how long on this driver, and which of them an apply has to be told to do.

A step whose outage is known and shorter than what one TCP retransmission bridges (200 ms, TCP_RTO_MIN) is labelled in the plan. One whose outage
is longer, or known for no such driver, needs --allow-disruptive (docs/decisions/0012-disruptive-steps-are-asked-for.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from runtime.plan import Planned
    from runtime.steps import Step


class DisruptiveError(Exception):
    """Steps that interrupt a device's traffic and were not allowed. The text lists them."""


@dataclass(frozen=True, slots=True)
class Outage:
    """What one kind of step does to the traffic of one driver. words: "" for nothing. asks: the apply has to be told to. source: how it is known."""

    words: str
    asks: bool
    source: str


_NONE = Outage("", False, "measured")
_VETH = "measured here on veth, kernel 6.18: no packet of 76,000 and more lost over 40 times each"
_RACK = "seen on the virtual rack (QEMU's device, kernel 6.12)"
_ROOT = Outage("what is sent in up to 10 ms is dropped while the kernel takes the old queue off (dev_deactivate)", False,
               "measured on veth: 654 of 53,096 packets over 40 times, the longest gap 127 packets or 8 ms")  # fmt: skip
_GATE = Outage("what arrives on the device is dropped for some milliseconds while one XDP program goes and the other comes", False,
               "an nft table stands before the device meanwhile (steps/foreign_gate.py)")  # fmt: skip
_OUTAGES = {
    ("xdp", "veth"): Outage("", False, _VETH),
    ("xdp", "netdevsim"): Outage("", False, "a device without hardware or queues (drivers/net/netdevsim)"),
    ("xdp", "igb"): Outage("the port resets: no carrier for about 2 s", True, _RACK),
    ("xdp", "vmxnet3"): Outage("the device is stopped and started anew, and forgets its RSS table", True, _RACK),
    ("xdp", "virtio_net"): Outage("the receive queues stop while the transmit queues are given out anew; how long is not known", True, "virtnet_xdp_set"),
    ("ring", "vmxnet3"): Outage("the device is stopped and started anew, and forgets its RSS table", True, _RACK),
    ("channels", "veth"): Outage("", False, _VETH),
}
_UNKNOWN = {
    "xdp": Outage("many drivers set their queues or the whole port up anew when XDP goes on or off: up to seconds without packets", True, "not known"),
    "channels": Outage("most drivers take the link down for up to some seconds; packets are lost meanwhile", True, "not known"),
    "ring": Outage("most drivers stop the queues and make them anew; packets are lost meanwhile", True, "not known"),
    "pause": Outage("some drivers negotiate the link anew", True, "not known"),
    "priv-flag": Outage("what a private flag interrupts is the driver's own business", True, "not known"),
    "feature": Outage("some drivers set their queues up anew when this is switched (igb: ntuple, ixgbe: lro)", True, "not known"),
    "root": _ROOT,
    "gate": _GATE,
}
_IN_DRIVER = ("native", "offload")  # modes of XDP for which a driver may set its queues up anew
_RESETTING_FEATURES = ("lro", "ntuple", "rx-lro", "rx-ntuple-filter")
_SOFTWARE = ("veth", "ifb", "dummy", "tun", "bridge", "vlan", "macvlan", "ipvlan", "netkit")  # no port and no queues that could be reset


@dataclass(frozen=True, slots=True)
class Disruption:
    """One step that interrupts something. text: the step's own."""

    text: str
    device: str
    driver: str
    outage: Outage


def found(steps: Sequence[Planned]) -> list[Disruption]:
    """The steps that interrupt traffic, in their order. Reads each device's driver, changes nothing."""
    drivers: dict[str, str] = {}
    made: list[Disruption] = []
    for planned in steps:
        kind, device = _subject(planned.step)
        if kind:
            driver = drivers.setdefault(device, driver_of(device))
            outage = expected(kind, driver)
            if outage.words:
                made.append(Disruption(planned.step.text, device, driver, outage))
    return made


def expected(kind: str, driver: str) -> Outage:
    """What a step of this kind (xdp, channels, ring, pause, priv-flag, feature, root, gate) does on this driver."""
    if kind == "feature" and driver in _SOFTWARE:
        return _NONE
    return _OUTAGES.get((kind, driver)) or _UNKNOWN[kind]


def require(steps: Sequence[Planned], allowed: bool) -> None:
    """Raises DisruptiveError with the list of the steps that have to be asked for, unless they were."""
    asked = [] if allowed else [item for item in found(steps) if item.outage.asks]
    if asked:
        lines = [f"  {item.text}: {item.driver or 'an unknown driver'}: {item.outage.words}" for item in asked]
        raise DisruptiveError("\n".join([
            f"{len(asked)} step{'s' * (len(asked) > 1)} would interrupt the traffic of a device; nothing was changed", *lines,
            "  = help: do it when that may be: the same command with --allow-disruptive; or leave out of the policy what asks for it",
        ]))  # fmt: skip


def driver_of(device: str) -> str:
    """The driver's name as `ethtool -i` has it, else the kind of device, "" where neither is told."""
    from runtime.backends import ethtool_ioctl, link

    try:
        return ethtool_ioctl.driver(device).name
    except OSError:
        try:
            return link.get(device).kind
        except OSError:
            return ""


def _subject(step: Step) -> tuple[str, str]:
    """(kind, device) of a step that may interrupt; ("", "") of any other."""
    from runtime.steps import foreign_xdp, setting_step, tc_steps, xdp_attach

    step = getattr(step, "step", step)  # xdp_trial.SettleStep: what a confirmation leaves to do
    if isinstance(step, xdp_attach.AttachStep) and (step.had or step.mode not in _IN_DRIVER):
        return "", ""  # one update of a link; generic XDP is the kernel's own
    if isinstance(step, xdp_attach.DetachStep) and step.mode not in _IN_DRIVER:
        return "", ""
    if isinstance(step, xdp_attach.AttachStep | xdp_attach.DetachStep):
        device = next((each.name for each in step.context.devices if each.nic == step.code.nic), "")  # "": it has gone, and nothing of it is interrupted
        return ("xdp", device) if step.mode in _IN_DRIVER and device else ("", "")
    if isinstance(step, foreign_xdp.TakeOff | foreign_xdp.Close):
        return "gate", step.device.name
    if isinstance(step, tc_steps.RootStep | tc_steps.RemoveStep) and step.place.tree.direction == "out":
        return "root", step.place.device
    if isinstance(step, setting_step.SettingStep):
        group, key = step.setting.group, step.setting.key
        if group in _UNKNOWN and (group != "feature" or key in _RESETTING_FEATURES):
            return group, step.device
    return "", ""
