"""A veth pair between two namespaces, a compiled shape on one end, and packets to send through it."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from compiler import bundle, ir, placed
from compiler.targets import tc as target
from compiler.targets import xdp
from runtime import objects
from runtime.backends import bpf
from runtime.backends.sysfs import write_proc
from runtime.context import Context, Device
from runtime.lab import netns
from runtime.steps import Step
from runtime.steps import tc as steps

NEAR, FAR = "w0", "f0"
NEAR_MAC, FAR_MAC = "02:00:00:00:00:01", "02:00:00:00:00:02"
NEAR_IP, FAR_IP = "192.0.2.1", "192.0.2.2"
MBIT = 1_000_000
_HOOKS = {"xdp": ("xdp", bpf.XDP), "tcx_egress": ("sched_cls", bpf.TCX_EGRESS), "tcx_ingress": ("sched_cls", bpf.TCX_INGRESS)}
_COUNTER = struct.Struct("=QQ")


@dataclass
class Pair:
    """near: the namespace with the shaped device w0; far: the other end."""

    near: str
    far: str
    context: Context
    ifindex: int


@contextmanager
def wired(near: str, far: str, state: Path) -> Iterator[Pair]:
    """Both ends up, addresses and permanent neighbours set; no other frame on the wire."""
    from pyroute2 import IPRoute

    target_ns = os.open(netns.path(far), os.O_RDONLY | os.O_CLOEXEC)
    try:
        with netns.enter(near), IPRoute() as kernel:
            peer = {"ifname": FAR, "address": FAR_MAC, "net_ns_fd": target_ns}
            kernel.link("add", ifname=NEAR, kind="veth", address=NEAR_MAC, peer=peer)
    finally:
        os.close(target_ns)
    near_index = _configure(near, NEAR, NEAR_IP, {FAR_IP: FAR_MAC})
    _configure(far, FAR, FAR_IP, {NEAR_IP: NEAR_MAC})
    yield Pair(near, far, Context(state, state / "bpf", (Device("wan", NEAR, near_index),), near), near_index)


def _configure(namespace: str, device: str, address: str, neighbours: dict[str, str]) -> int:
    from pyroute2 import IPRoute

    with netns.enter(namespace), IPRoute() as kernel:
        index: int = kernel.link_lookup(ifname=device)[0]
        write_proc(f"sys/net/ipv6/conf/{device}/disable_ipv6", "1")
        kernel.link("set", index=index, state="up")
        kernel.addr("add", index=index, address=address, prefixlen=24)
        for host, mac in neighbours.items():
            kernel.neigh("add", dst=host, lladdr=mac, ifindex=index, state=0x80)  # NUD_PERMANENT
    return index


def shape(direction: str, rate: int, *classes: ir.Class, overhead: int = 0) -> ir.Shape:
    return ir.Shape(f"wan.shape.{direction}", "wan", direction, rate, overhead, classes)


def port(name: str, number: int, **more: object) -> ir.Class:
    """A class of what goes to one port."""
    return ir.Class(name, ir.Within(ir.Field.DPORT, ((number, number),)), **more)  # type: ignore[arg-type]


def rest(**more: object) -> ir.Class:
    return ir.Class("rest", None, **more)  # type: ignore[arg-type]


def compiled(*shapes: ir.Shape, chain: placed.ChainPlacement | None = None, sets: tuple[ir.Set, ...] = ()) -> bundle.Bundle:
    """A bundle of these shapes, and of an XDP stage when there is a chain."""
    chains = (chain,) if chain else ()
    program = ir.Program(nics=(ir.Nic("wan", NEAR),), sets=sets, shapes=shapes, chains=tuple(c.chain for c in chains))
    whole = placed.Placed(program, (placed.NicPlacement(program.nics[0], 0, chains, (), shapes),), (), (), ())
    made, early = target.lower(whole), xdp.lower(whole)
    maps = {item.id: item for item in (*made.maps, *early.maps)}
    nic = bundle.Nic("wan", NEAR, 0, "native")
    return bundle.Bundle("test.netc", "0" * 64, "0", (nic,), tuple(maps.values()), (*early.programs, *made.programs),
                         (*early.counters, *made.counters), (), made.trees, (), (), (), ())  # fmt: skip


def run(made: list[Step], *phases: str) -> None:
    """The steps of these phases, each done and checked."""
    for phase in phases:
        for step in made:
            if step.phase == phase:
                step.do()
    for step in made:
        if step.phase in phases:
            step.check()


class Attached:
    """The programs of a bundle on the near device, as the XDP steps put them there: maps filled, links made or updated in place."""

    def __init__(self, pair: Pair) -> None:
        self._pair = pair
        self._links: dict[str, tuple[int, int]] = {}
        self._maps: dict[int, tuple[bundle.Map, int]] = {}
        self._counters: dict[str, bundle.Counter] = {}
        self._fds: list[int] = []
        self._slots: dict[str, int] = {}

    def load(self, new: bundle.Bundle, generation: int) -> dict[str, int]:
        """Programs of `new` by hook; packets do not see them yet."""
        words = steps.config_words(self._pair.context, "wan", generation)
        for counter in new.counters:
            self._slots.setdefault(counter.name, len(self._slots))
        fds = {item.id: self._map(item, new, words) for item in new.maps}
        loaded = {}
        for code in new.programs:
            kind, attach = _HOOKS[code.hook]
            used = {number: fds[number] for number in code.maps}
            loaded[code.hook] = bpf.load_program(kind, code.code, used, "netc_test", attach, code.frags and kind == "xdp")
            self._fds.append(loaded[code.hook])
        self._counters = {counter.name: counter for counter in new.counters}
        return loaded

    def flip(self, loaded: dict[str, int]) -> None:
        for hook, program in loaded.items():
            if hook in self._links:
                link, old = self._links[hook]
                bpf.link_update(link, program, old)
                self._links[hook] = link, program
            else:
                flags = bpf.XDP_FLAGS_DRV if hook == "xdp" else 0
                self._links[hook] = bpf.link_create(program, self._pair.ifindex, _HOOKS[hook][1], flags), program

    def counters(self) -> dict[str, tuple[int, int]]:
        """Packets and bytes by counter name."""
        fd = next(fd for item, fd in self._maps.values() if item.role == "counters")
        return objects.read_slots(fd, {name: self._slots[name] for name in self._counters})

    def close_links(self) -> None:
        """An unpinned link goes with its descriptor."""
        for link, _ in self._links.values():
            os.close(link)
        self._links = {}

    def close(self) -> None:
        self.close_links()
        for fd in (*self._fds, *(fd for _, fd in self._maps.values())):
            os.close(fd)

    def _map(self, item: bundle.Map, new: bundle.Bundle, words: dict[str, int]) -> int:
        if item.scope == "persistent" and item.id in self._maps:
            return self._maps[item.id][1]
        fd = bpf.create_map(item.kind, item.key_size, item.value_size, item.max_entries, item.flags)
        value = item.entries[4:]
        if item.role == "slots":
            mine = [c for c in new.counters if f"{c.program}.slots" == item.name]
            value = b"".join(struct.pack("=I", self._slots[c.name]) for c in sorted(mine, key=lambda c: c.index))
        elif item.role == "config":
            value = struct.pack("=2I", *(words[word] for word in bundle.CONFIG_WORDS))
        if value:
            bpf.map_update(fd, bytes(4), value.ljust(item.value_size, b"\0"))
        if item.id in self._maps:
            self._fds.append(self._maps[item.id][1])
        self._maps[item.id] = item, fd
        return fd


def frame(dport: int, payload: int = 100, *, src: str = FAR_IP, dst: str = NEAR_IP, tags: tuple[int, ...] = (), dscp: int = 0,
          version: int = 4, to: str = NEAR_MAC) -> bytes:  # fmt: skip
    """A UDP frame made by scapy, with any number of 802.1Q tags."""
    from scapy.layers.inet import IP, UDP
    from scapy.layers.inet6 import IPv6
    from scapy.layers.l2 import Dot1Q, Ether

    layers = Ether(dst=to, src=FAR_MAC if to == NEAR_MAC else NEAR_MAC)
    for tag in tags:
        layers /= Dot1Q(vlan=tag)
    layers /= IP(src=src, dst=dst, tos=dscp << 2) if version == 4 else IPv6(src="2001:db8::2", dst="2001:db8::1", tc=dscp << 2)
    return bytes(layers / UDP(sport=4000, dport=dport) / bytes(payload))


def out_frame(dport: int, payload: int = 100, **more: object) -> bytes:
    """A frame that the near end sends."""
    return frame(dport, payload, src=NEAR_IP, dst=FAR_IP, to=FAR_MAC, **more)  # type: ignore[arg-type]


@contextmanager
def packet_socket(namespace: str, device: str) -> Iterator[socket.socket]:
    """A raw socket on the device that only sends: through the qdisc, as any sender does."""
    with netns.enter(namespace):
        raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)
    try:
        raw.bind((device, 0))
        raw.setsockopt(socket.SOL_SOCKET, 32, 16 << 20)  # SO_SNDBUFFORCE: what waits in the classes is charged to it
        yield raw
    finally:
        raw.close()


@contextmanager
def udp_socket(namespace: str, address: tuple[str, int]) -> Iterator[socket.socket]:
    with netns.enter(namespace):
        bound = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    try:
        bound.setsockopt(socket.SOL_SOCKET, 33, 64 << 20)  # SO_RCVBUFFORCE
        bound.bind(address)
        bound.settimeout(20)
        yield bound
    finally:
        bound.close()
