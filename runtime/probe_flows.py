"""Protected flows → probes: the addresses, ports and devices of this host put in where a `protect` leaves them open."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from itertools import islice
from typing import NamedTuple

from compiler.bundle import Protected
from runtime import probing
from runtime.backends import link, routes
from runtime.backends.netlink import NetlinkError
from runtime.backends.routes import Address, Interface, Way
from runtime.context import Context, Device
from runtime.lockout import Guarded
from runtime.probe_frame import Packet
from runtime.probing import Probe

_TCP, _SYN = 6, 2
_TRIED = 16  # addresses of a range, before it is taken as it is


class _Here(NamedTuple):
    """What a probe has to know of the host. addresses: with their prefixes; of: the index of each one's device."""

    of: Mapping[Interface, int]
    links: Mapping[int, routes.Device]

    @property
    def own(self) -> set[Address]:
        return {interface.ip for interface in self.of}


def probes(context: Context, flows: Sequence[Protected], guarded: Guarded | None) -> list[Probe]:
    """One for each flow whose nic has a device with addresses of the family, and one for each way that the connection can come in by. Raises NetlinkError."""
    here = _Here(routes.local_addresses(), routes.devices())
    found = [probe for flow in flows for probe in _of_flow(context, flow, here)]
    if guarded is not None:
        found += [_of_session(guarded, way, device, here) for way in guarded.ways for device in context.devices if device.name == way.device]
    return list({(probe.device, probe.text, probe.packet.src, probe.packet.dst): probe for probe in found}.values())


def _of_flow(context: Context, flow: Protected, here: _Here) -> Iterator[Probe]:
    with contextlib.suppress(KeyError):  # no device is bound to the nic: nothing is installed there
        device = context.device(flow.nic)
        top = _top(device.ifindex, here)
        interfaces = [each for each, index in here.of.items() if index == top and each.version == flow.family and not each.ip.is_link_local]
        dst = _destination(flow, interfaces, here)
        src = _source(flow, interfaces, dst, here) if dst else None
        if dst and src:
            packet = Packet(
                _mac(top, here), src, dst, flow.proto, flow.sport if flow.sport >= 0 else probing.port(), max(flow.dport, 0) or probing.port(),
                max(flow.icmp, 0), max(flow.flags, 0), max(flow.vlan, 0), flow.dscp, flow.ttl, probing.number(dst),
            )  # fmt: skip
            yield Probe(f"{flow.nic} {flow.text}", device, packet, dst in here.own)


def _of_session(guarded: Guarded, way: Way, device: Device, here: _Here) -> Probe:
    """As the connection's own packets, but from another port: it is not to meddle with the connection."""
    src, dst = ip_address(guarded.session.client), ip_address(guarded.session.local)
    sport = next(port for port in iter(probing.port, 0) if port != guarded.session.client_port)
    top = next((index for index, each in here.links.items() if each.name == guarded.ways[0].device), device.ifindex)
    packet = Packet(_mac(top, here), src, dst, _TCP, sport, guarded.session.local_port, 0, _SYN, way.vlan, 0, 64, probing.number(dst))
    return Probe(f"{device.nic} tcp dport {guarded.session.local_port} src {src} dst {dst} (the connection of this command)", device, packet, True)


def _top(ifindex: int, here: _Here) -> int:
    """The device that has the addresses: of a port its bridge or bond."""
    device = here.links.get(ifindex)
    return _top(device.port_of, here) if device is not None and device.port_of in here.links else ifindex


def _mac(ifindex: int, here: _Here) -> bytes:
    with contextlib.suppress(NetlinkError, KeyError):
        address = link.get(here.links[ifindex].name).address
        return address if len(address) == 6 else bytes(6)
    return bytes(6)


def _destination(flow: Protected, interfaces: Sequence[Interface], here: _Here) -> Address | None:
    """An address of this host that the flow allows, the device's own first; else the first that it names: such packets are routed on."""
    wanted = [each.ip for each in (*interfaces, *sorted(here.of, key=str)) if each.version == flow.family and not each.is_loopback and _allows(flow.dst, each.ip)]
    if wanted:
        return wanted[0]
    return next(_few(flow.dst), None) if flow.dst[0] else None


def _source(flow: Protected, interfaces: Sequence[Interface], dst: Address, here: _Here) -> Address | None:
    """An address that the flow allows and that can be somebody else's: on the device's own network where any will do."""
    if flow.src[0]:
        candidates = list(_few(flow.src))
        return next((each for each in candidates if each not in here.own), None)
    near = next((each for each in interfaces if each.ip == dst), next(iter(interfaces), None))
    if near is None:
        return None
    hosts: Iterator[Address] = iter(near.network.hosts())
    return next((each for each in islice(hosts, _TRIED) if each not in here.own), None)


def _allows(ends: tuple[str, str], address: Address) -> bool:
    return not ends[0] or int(ip_address(ends[0])) <= int(address) <= int(ip_address(ends[1]))


def _few(ends: tuple[str, str]) -> Iterator[Address]:
    """The first addresses of a range; what a network's own address could be comes last."""
    low, high = map(ip_address, ends)
    last = min(int(high), int(low) + _TRIED)
    several = last > int(low)
    yield from (type(low)(value) for value in range(int(low) + several, last + 1))
    if several:
        yield low
