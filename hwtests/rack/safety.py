"""Which ports must never be touched: what the machine is reached by, what carries its default route, and what belongs to somebody else."""

from __future__ import annotations

from typing import Any

from hwtests.rack.errors import Unsafe
from hwtests.rack.machine import Machine

_HOLDS = "master"  # a port of a bond, bridge or team


def check(machine: Machine, device: str, management: tuple[str, ...] = (), real: bool = True) -> None:
    """Refuse a device whose test would cut the machine off or take something from its owner. real: not one made for this run.

    Raises Unsafe, with the reason and what to do.
    """
    if device in management:
        raise Unsafe(f"{machine.name}: {device} is named as management in the rack file; test another port")
    links = {link["ifname"]: link for link in machine.json("ip", "-d", "-j", "link")}
    if device not in links:
        raise Unsafe(f"{machine.name}: there is no device {device}")
    for reason in _reasons(machine, device, links):
        raise Unsafe(f"{machine.name}: {device} {reason}")
    if real:
        _refuse_connection(machine, device, links)


def _reasons(machine: Machine, device: str, links: dict[str, Any]) -> list[str]:
    """Why a device is somebody's: each with the mend."""
    link = links[device]
    found = []
    if "LOOPBACK" in link["flags"]:
        found.append("is the loopback device: name a NIC")
    if link.get(_HOLDS):
        found.append(f"is a port of {link[_HOLDS]}: take it out of there first (ip link set {device} nomaster)")
    above = [name for name, other in links.items() if other.get("link") == device and name != device and link.get("link") != name]  # each other's: a cable (veth, netdevsim)
    if above:
        found.append(f"carries {', '.join(sorted(above))}: they would lose their traffic; remove them for the test")
    if link.get("xdp"):
        program = link["xdp"].get("prog", {})
        found.append(f"runs somebody's XDP program {program.get('name', '')} (id {program.get('id', '?')}): detach it first (ip link set {device} xdp off)")
    if any(route.get("dev") == device for route in _default_routes(machine)):
        found.append("carries the default route: a test would cut the machine off; use a port that nothing depends on")
    return found


def _default_routes(machine: Machine) -> list[dict[str, Any]]:
    routes: list[dict[str, Any]] = []
    for family in ("-4", "-6"):
        for route in machine.json("ip", family, "-j", "route", "show", "default") or []:
            routes += [route, *route.get("nexthops", [])]
    return routes


def _refuse_connection(machine: Machine, device: str, links: dict[str, Any]) -> None:
    """Refuse the device by which the connection to this machine comes in (SSH_CONNECTION: client, port, server, port)."""
    words = machine.run("sh", "-c", 'echo "$SSH_CONNECTION"').out.split()
    if len(words) != 4:
        return
    for link in machine.json("ip", "-j", "addr"):
        if link["ifname"] == device and any(info.get("local") == words[2] for info in link["addr_info"]):
            raise Unsafe(f"{machine.name}: the connection from {words[0]} comes in by {device}: a test would cut it; connect by another port")
    routed = machine.json("ip", "-j", "route", "get", words[0])
    if any(route.get("dev") == device for route in routed or []):
        raise Unsafe(f"{machine.name}: answers to {words[0]} leave by {device}: a test would cut the connection; connect by another port")
