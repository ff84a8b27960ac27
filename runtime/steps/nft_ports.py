"""Refuses nics whose packets go past connection tracking: ports of a bridge, parents of an ipvlan, and for forwarded traffic ports of anything.

A bridge or a switch takes a port's packets before IP sees them (netdev_rx_handler, net/core/dev.c), so that rules that need connection tracking
would silently never be asked. `iifname` and `oifname` of what is forwarded name the bond, bridge or VRF, never its port.
"""

from __future__ import annotations

from compiler.bundle import Bundle
from runtime.backends import link, link_above
from runtime.backends.netlink import NetlinkError
from runtime.context import Context
from runtime.steps import StepError

_TO_THE_STACK = ("", "bond", "team", "vrf")  # all that they take arrives at IP, with its mark


def require_stack(context: Context, bundle: Bundle) -> None:
    """Raises StepError for a nic whose later stages would not see its packets."""
    arriving, forwarding = _nics(bundle)
    for device in context.devices:
        if device.nic not in arriving | forwarding:
            continue
        try:
            port_of = link.get(device.name).port_of
        except NetlinkError as error:
            raise StepError(f"read {device.name}", error.words) from None
        if device.nic in arriving and port_of not in _TO_THE_STACK:
            words = f"{device.name} is a port of a {port_of}: what that takes goes past connection tracking, and so past the stateful rules"
            raise StepError(f"nic {device.nic}", words, f"write stateless rules only for {device.nic}, or take {device.name} out of the {port_of}")
        if device.nic in arriving:
            _refuse_above(device.nic, device.name)
        if device.nic in forwarding and port_of:
            words = f"{device.name} is a port of a {port_of}: forwarded packets name that device, so the rules for {device.nic} would never be asked"
            raise StepError(f"nic {device.nic}", words, f"bind {device.nic} to the {port_of} itself (with `xdp none` or `xdp generic`)")


def _refuse_above(nic: str, device: str) -> None:
    """A device with the nic's own address (ipvlan, macvlan passthru), or one that takes by sender, cannot be told from the host itself."""
    try:
        found = link_above.in_other_namespaces(link.get(device).ifindex)
    except NetlinkError as error:
        raise StepError(f"read what stands on {device}", error.words) from None
    for above in found:
        if above.kind.startswith("ipv") or above.mode in ("passthru", "source"):
            name = f"{above.name} ({f'{above.kind} {above.mode}'.strip()}) of another network namespace"
            words = f"{name} stands on {device}: what that takes goes past connection tracking, and so past the stateful rules"
            raise StepError(f"nic {nic}", words, f"write stateless rules only for {nic}, or put the container on a macvlan in bridge mode or a veth")


def _nics(bundle: Bundle) -> tuple[set[str], set[str]]:
    """The nics whose arriving packets connection tracking judges, and those that forward filters name."""
    seen = [c.name.removesuffix(".seen") for c in bundle.counters if (c.stage, c.kind) == ("conntrack", "seen")]
    arriving = {name.removesuffix(".in") for name in seen if name.endswith(".in")}
    return arriving, {nic for name in seen if "->" in name for nic in name.split("->")}
