"""Namespaces, cables, addresses: what a lab is made of, made in order and silent.

Silent: a lab that nobody sends in carries no frame at all, so that a counter's difference is exactly what was sent. The devices have
neither multicast nor ARP: then the kernel joins no group but all-nodes, and reports none (net/ipv6/mcast.c, addrconf_join_solict).
Autoconfiguration, duplicate address detection and router solicitation are off; neighbours are permanent, every other host is silent.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import Any

from runtime.backends import ethtool
from runtime.backends.sysfs import write_proc
from runtime.lab import netns
from runtime.lab.topology import DUT, GATEWAYS, SIDES, LabError, Names, Side

_NOARP, _MULTICAST = 0x80, 0x1000  # IFF_*, include/uapi/linux/if.h
_QUIET = {"accept_ra": "0", "autoconf": "0", "accept_dad": "0", "dad_transmits": "0", "router_solicitations": "0", "addr_gen_mode": "1"}
_ROUTER = {
    "ipv4/ip_forward": "1", "ipv6/conf/all/forwarding": "1", "ipv4/conf/all/rp_filter": "0", "ipv4/conf/default/rp_filter": "0",
    "ipv4/conf/all/send_redirects": "0", "ipv4/conf/default/send_redirects": "0",
}  # fmt: skip
# As on a wire: the tag and the checksum are in the frame, no segment is larger than the MTU. GRO, at both ends: as a NIC has it, and
# because veth takes redirected frames only where the other end has GRO or XDP.
_DUT_FEATURES = {"rx-gro": True}
_PEER_FEATURES = {
    "tx-vlan-hw-insert": False, "tx-vlan-stag-hw-insert": False, "tx-checksum-ip-generic": False,
    "tx-tcp-segmentation": False, "tx-tcp6-segmentation": False, "tx-generic-segmentation": False, "rx-gro": True,
}  # fmt: skip


def namespace(name: str) -> None:
    """A fresh namespace with a quiet IPv6 and its loopback up."""
    from pyroute2 import IPRoute

    netns.create(name)
    with netns.enter(name):
        for where in ("all", "default"):
            for key, value in _QUIET.items():
                with suppress(OSError):  # `all` has no addr_gen_mode, a kernel without IPv6 none of them
                    write_proc(f"sys/net/ipv6/conf/{where}/{key}", value)
        with IPRoute() as kernel:
            kernel.link("set", index=1, state="up")


def cable(names: Names, side: Side, queues: int) -> None:
    """A veth pair with `queues` receive and transmit queues at both ends; the peer sends by one of them.

    Native XDP needs at least as many receive queues as the other end sends by: so a policy may set any number of channels.

    The ends' indexes differ: the kernel takes a device whose link has its own index for a lone one, and then announces its carrier up
    to a second late (linkwatch_urgent_event in net/core/link_watch.c).
    """
    from pyroute2 import IPRoute

    peer_netns = os.open(netns.path(names.netns(side.name)), os.O_RDONLY | os.O_CLOEXEC)
    counts = {"num_tx_queues": queues, "num_rx_queues": queues}
    try:
        with netns.enter(names.netns(DUT)), IPRoute() as kernel:
            peer = {"ifname": side.peer, "address": side.peer_mac, "net_ns_fd": peer_netns, **counts}
            kernel.link("add", index=side.ifindex, ifname=side.device, kind="veth", address=side.mac, peer=peer, **counts)
        with netns.enter(names.netns(side.name)):
            ethtool.put(side.peer, "channels", {"rx": queues, "tx": 1})
    finally:
        os.close(peer_netns)


def ends(names: Names, side: Side) -> None:
    """Bring both ends of a cable up with their addresses and neighbours."""
    _offloads(names, side)
    with netns.enter(names.netns(side.name)):
        _configure(side.peer, side.peer_addresses, {_host(a): side.mac for a in side.addresses})
    with netns.enter(names.netns(DUT)):
        neighbours = [*map(_host, side.peer_addresses), *side.silent]
        _configure(side.device, side.addresses, dict.fromkeys(neighbours, side.peer_mac))


def routes(names: Names) -> None:
    """Forwarding and default routes: the dut's by the wan, the lan's by the dut, the wan's back to the dut."""
    with netns.enter(names.netns(DUT)):
        for key, value in _ROUTER.items():
            write_proc(f"sys/net/{key}", value)
        _default_routes(GATEWAYS)
    for side in SIDES:
        with netns.enter(names.netns(side.name)):
            _default_routes(tuple(map(_host, side.addresses)))


def _offloads(names: Names, side: Side) -> None:
    for role, device, wanted in ((side.name, side.peer, _PEER_FEATURES), (DUT, side.device, _DUT_FEATURES)):
        with netns.enter(names.netns(role)):
            ethtool.set_features(device, wanted)
            have = ethtool.features(device)
        if wrong := [name for name, on in wanted.items() if name not in have or have[name].active != on]:
            raise LabError(f"{device}: this kernel's veth does not do as asked: {', '.join(wrong)}")


def _configure(device: str, addresses: tuple[str, ...], neighbours: dict[str, str]) -> None:
    from pyroute2 import IPRoute

    with IPRoute() as kernel:
        index = kernel.link_lookup(ifname=device)[0]
        kernel.link("set", index=index, flags=_NOARP, change=_NOARP | _MULTICAST)
        for address in addresses:
            kernel.addr("add", index=index, address=_host(address), prefixlen=int(address.partition("/")[2]))
        kernel.link("set", index=index, state="up")
        for address, mac in neighbours.items():
            kernel.neigh("add", ifindex=index, dst=address, lladdr=mac, state="permanent")


def _default_routes(gateways: tuple[str, ...]) -> None:
    from pyroute2 import IPRoute

    with IPRoute() as kernel:
        for gateway in gateways:
            everything: dict[str, Any] = {"dst": "::/0" if ":" in gateway else "0.0.0.0/0", "gateway": gateway}
            kernel.route("add", **everything)


def _host(address: str) -> str:
    return address.partition("/")[0]
