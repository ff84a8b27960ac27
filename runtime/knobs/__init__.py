"""One knob of a NIC or of the host: read it, say what a wish means on this device, write it. runtime/steps/settings.py turns them.

A value is what JSON can hold and `==` can compare, so that what was read before a change can be written back by another process.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from compiler.bundle import Setting
    from runtime.context import Context

Value = int | str | Sequence[int | str]
Wanted = int | str | tuple[int | str, ...]


class Refusal(Exception):
    """It cannot be had. `words`: the device's or kernel's own, with what was asked of it; `mend`: what the user can do."""

    def __init__(self, words: str, mend: str = "") -> None:
        super().__init__(words)
        self.words, self.mend = words, mend


class Knob(Protocol):
    """resets: a change may reset queues or the port (runtime.disruption says what that is). after: groups whose change can alter what this knob reads (channels → queues)."""

    resets: bool
    after: tuple[str, ...]

    def read(self) -> Value:
        """Raises Refusal where the device does not have the knob."""

    def resolve(self, wanted: Wanted) -> Value:
        """What `read` has to return for the wish to hold. Raises Refusal where this device can never grant it."""

    def write(self, value: Value) -> None:
        """Set what `resolve` or `read` returned. Raises Refusal."""


def refused(evidence: str, error: OSError) -> Refusal:
    """The kernel's answer to `evidence` (a command or a path) in its own words."""
    words = getattr(error, "words", None) or error.strerror or str(error)
    return Refusal(f"{evidence}: {words}")


def knob(context: Context, setting: Setting) -> Knob:
    """The knob that a setting turns. Raises Refusal for one that this netc does not know, KeyError for a nic that is not bound."""
    from runtime.knobs import (
        affinity,
        contexts,
        device_files,
        flow_rules,
        host,
        nic,
        offloads,
        queues,
        redirected,
        rfs,
        steering,
        vlan,
    )

    group, key = setting.group, setting.key
    if group == "sysctl":
        return host.Sysctl(key, lab=bool(context.netns))
    if group == "rfs-host":
        return rfs.HostTable(key, lab=bool(context.netns))
    if group == "buffers":
        return host.AtLeast(key, lab=bool(context.netns))
    if group == "require" and not key.endswith(".ndo-xmit"):
        return host.RequiredCpus()
    if group == "irq" and context.netns:
        raise Refusal("interrupts are the host's (/proc/irq), and a lab does not touch the host", "write `prefer`, or try it on the host")
    device = context.device(setting.nic)
    match group:
        case "require":
            return redirected.SendsRedirected(device)
        case "channels" | "ring" | "coalesce" | "pause":
            return nic.Numbers(device.name, group, key)
        case "feature":
            return offloads.OffloadFeature(device.name, key)
        case "napi":
            return device_files.Napi(device, key)
        case "link":
            return device_files.DeviceFile(device, key)
        case "priv-flag":
            return nic.PrivateFlag(device.name, key)
        case "hash":
            if key == "symmetric":
                return steering.SymmetricFunction(device.name)
            return steering.HashKey(device.name) if key == "key" else steering.HashFields(device.name, key)
        case "rss":
            return steering.RssTable(device.name)
        case "ntuple":
            return flow_rules.FlowRule(context.state, device, setting.value)
        case "rss-context":
            return contexts.ContextTable(context.state, device, key)
        case "rfs":
            return rfs.FlowTable(device.name)
        case "irq":
            return affinity.Interrupts(device)
        case "xps" | "rps":
            return queues.PacketSteering(device.name, group)
        case "queue" if key in queues.RAW:
            return queues.QueueFile(device.name, key, queues.RAW[key])
        case "vlan":
            return vlan.TagsInFrame(device.name)
    raise Refusal(f"this netc knows no settings of the group {group!r}", "apply it with the netc that compiled it")
