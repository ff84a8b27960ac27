"""Refuses nics whose packets go past connection tracking: ports of a bridge, and for forwarded traffic ports of anything.

A bridge or a switch takes a port's packets before IP sees them (netdev_rx_handler, net/core/dev.c), so that rules that need connection tracking
would silently never be asked. `iifname` and `oifname` of what is forwarded name the bond, bridge or VRF, never its port.
"""

from __future__ import annotations

import msgspec

from compiler.bundle import Bundle
from runtime.backends import link
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
        if device.nic in forwarding and port_of:
            words = f"{device.name} is a port of a {port_of}: forwarded packets name that device, so the rules for {device.nic} would never be asked"
            raise StepError(f"nic {device.nic}", words, f"bind {device.nic} to the {port_of} itself (with `xdp none` or `xdp generic`)")


def _nics(bundle: Bundle) -> tuple[set[str], set[str]]:
    """The nics whose arriving packets a later stage judges, and those that forward filters name."""
    arriving = {c.name.removesuffix(".in.seen") for c in bundle.counters if c.stage == "conntrack" and c.name.endswith(".in.seen")}
    forwarding: set[str] = set()
    for table in bundle.nft:
        for rule in (command["add"].get("rule") for command in map(msgspec.json.decode, table.objects)):
            named = {match.get("left", {}).get("meta", {}).get("key"): match["right"] for match in _matches(rule)}
            if {"iifname", "oifname"} <= set(named):
                forwarding |= {named[key].removeprefix("$dev:") for key in ("iifname", "oifname")}
    return arriving & {nic.name for nic in bundle.nics}, forwarding


def _matches(rule: dict[str, list[dict[str, dict[str, str]]]] | None) -> list[dict[str, dict[str, str]]]:
    """The rule's matches whose left side is an object."""
    found = [part["match"] for part in (rule or {}).get("expr", []) if "match" in part]
    return [match for match in found if isinstance(match.get("left"), dict)]  # type: ignore[misc]
