"""Where in an apply each setting of a device is written: before its XDP program goes on, or after; and when it is given back.

    on      what the program needs first (offloads, flags, fewer channels), the program, then channels and rings, RSS, contexts, flow rules, interrupts
    off     the other way round: flow rules, contexts, RSS, rings and channels, the program, then what could not be changed while it was on, and merging

A driver may reset queues and tables for a native program, so what steers comes behind it. Fewer channels come before it (an XDP program takes queues of
its own, which there must be room for: ena, ixgbe, bnxt_en, ice), and where the driver refuses the change under a program (virtio_net) so do more. veth needs
as many receive queues as its peer has transmit queues before it takes a program. Where no program goes on or off, settings are written before anything is flipped: a refusal then
has changed nothing that packets see.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from compiler.bundle import Bundle
from runtime.backends import bpf
from runtime.context import Context, Device
from runtime.knobs import Refusal
from runtime.steps import StepError, implied, port_reset, queue_settings, xdp_pins

if TYPE_CHECKING:
    from runtime.steps.setting_step import SettingStep

BEHIND = ("require", "channels", "ring", "rss", "hash", "rss-context", "ntuple", "irq", "xps", "rps", "rfs", "queue")
_FIRST = "channels-before-xdp"


def place(context: Context, new: Bundle | None, steps: Sequence[SettingStep]) -> None:
    """Set phase and place of every step. Steps keep their order among each other."""
    last: set[str] = set()  # devices whose queues come back behind the program
    for step in steps:
        device = next((each for each in context.devices if each.name == step.device), None)
        if device is None:
            continue
        wanted, there = _wants(new, device.nic), _is_there(context, device)
        if new is None or (there and not wanted):
            step.phase = "flip"
            if step.setting.group == "channels" and _only_without(step, True):
                last.add(device.name)
            with_queues = device.name in last and step.setting.group in ("channels", "rss", *queue_settings.PER_QUEUE)
            step.flips = "settings last" if with_queues or implied.is_given_back_last(step.setting) else "settings"
        elif wanted and not there and step.setting.group in BEHIND and not (step.setting.group == "channels" and _only_without(step, False)):
            step.phase = "flip"


def _wants(new: Bundle | None, nic: str) -> bool:
    """Will a native program be on the nic?"""
    if new is None or not any(code.nic == nic and code.hook == "xdp" for code in new.programs):
        return False
    return any(item.name == nic and item.xdp == "native" for item in new.nics)


def _is_there(context: Context, device: Device) -> bool:
    """Is a program of netc's on the device now?"""
    try:
        with xdp_pins.opened_if_there(xdp_pins.links(context) / f"{xdp_pins.pin_name(device.nic)}-xdp") as link:
            return link is not None and bpf.link_info(link).ifindex == device.ifindex
    except bpf.BpfError as error:
        raise StepError(f"read what is on {device.name}", str(error)) from None


def _only_without(step: SettingStep, going: bool) -> bool:
    """Whether these channels are to be written while no program is on. going: it goes off, so what is written is what was there before it."""
    from runtime import disruption

    if _FIRST in port_reset.quirks_of(step.device) or disruption.driver_of(step.device) == "veth":
        return True
    try:
        now, wanted = step.reading()
    except Refusal:
        return False
    return _total(wanted) > _total(now) if going else _total(wanted) < _total(now)


def _total(value: object) -> int:
    return sum(int(str(count)) for count in value) if isinstance(value, list) else int(str(value))
