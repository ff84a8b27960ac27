"""A veth pair in a namespace of its own: frames go in at `far`, the policy's nic wan is `near`; nft applied by the product's steps."""

from __future__ import annotations

import fcntl
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from compiler import bundle, ir, place
from compiler.targets import nft
from runtime.backends import nft as backend
from runtime.context import Context, Device
from runtime.lab import netns
from runtime.steps import nft as steps

NEAR, FAR = "ntnear", "ntfar"
NEAR_MAC, FAR_MAC = "02:00:00:00:00:02", "02:00:00:00:00:01"
GRO_OFF = ir.Setting("wan", "feature", "gro", "off")


def placed(program: ir.Program, *chains: place.ChainPlacement, forwards: tuple[place.ChainPlacement, ...] = ()) -> place.Placed:
    """Chains on nic wan, index 0, and the other nics bare."""
    nics = [place.NicPlacement(nic, index, chains if index == 0 else (), (), ()) for index, nic in enumerate(program.nics)]
    return place.Placed(program, tuple(nics), forwards, program.settings, ())


def bundle_of(made: place.Placed) -> bundle.Bundle:
    parts = nft.lower(made)
    nics = tuple(bundle.Nic(n.nic.name, n.nic.device, n.index, n.nic.xdp) for n in made.nics)
    return bundle.Bundle(
        policy="test", policy_sha256="", netc="0", nics=nics, maps=(), programs=(), counters=parts.counters, nft=parts.nft, trees=(),
        settings=(), placements=(), expects=(), sets=(),
    )  # fmt: skip


def apply(context: Context, new: bundle.Bundle | None, old: bundle.Bundle | None, generation: int) -> None:
    """All nft steps, with their checks."""
    made = steps.steps(context, new, old, generation)
    for step in made:
        if step.phase != "clean":
            step.do()
    for step in made:
        step.check()
    for step in made:
        if step.phase == "clean":
            step.do()


class Wire:
    """Inside the namespace: send frames and read counters."""

    def __init__(self, context: Context) -> None:
        self.context = context
        self.far = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self.far.bind((FAR, 0))

    def send(self, frames: Iterable[bytes]) -> int:
        return sum(bool(self.far.send(frame)) for frame in frames)

    def counters(self, made: bundle.Bundle) -> dict[tuple[str, str], tuple[int, int]]:
        return steps.read_counters(self.context, made)

    def settled(self, made: bundle.Bundle, key: tuple[str, str], count: int) -> dict[tuple[str, str], tuple[int, int]]:
        """The counters once `key` has reached `count` packets; what there is after two seconds of waiting for it."""
        end = time.monotonic() + 2
        while (found := self.counters(made))[key][0] < count and time.monotonic() < end:
            time.sleep(0.002)
        return found


@contextmanager
def wire(namespace: str, tmp: Path, ip6: bool = True) -> Iterator[Wire]:
    """Enter the namespace with a veth pair that is up: no router solicitations, no GRO. ip6 False: no MLD reports of its own either."""
    from pyroute2 import IPRoute

    with netns.enter(namespace):
        for key in ("all", "default"):
            for name, value in (("addr_gen_mode", "1"), ("accept_ra", "0"), ("accept_dad", "0")):
                Path(f"/proc/sys/net/ipv6/conf/{key}/{name}").write_text(value)
            if not ip6:
                Path(f"/proc/sys/net/ipv6/conf/{key}/disable_ipv6").write_text("1")
        with IPRoute() as route:
            route.link("add", ifname=NEAR, kind="veth", address=NEAR_MAC, peer={"ifname": FAR, "address": FAR_MAC})
            indices = {name: route.link_lookup(ifname=name)[0] for name in (NEAR, FAR)}
            for index in indices.values():
                route.link("set", index=index, state="up", mtu=9000)
            route.addr("add", index=indices[NEAR], address="192.0.2.1", prefixlen=24)
            if ip6:
                route.addr("add", index=indices[NEAR], address="2001:db8::1", prefixlen=64)
        _features_off(FAR)
        context = Context(tmp, tmp, (Device("wan", NEAR, indices[NEAR]), Device("lan", FAR, indices[FAR])), namespace)
        made = Wire(context)
        try:
            yield made
        finally:
            made.far.close()


def _features_off(device: str) -> None:
    """No checksum offload on the sender: ETHTOOL_STXCSUM (include/uapi/linux/ethtool.h) by the SIOCETHTOOL ioctl."""
    import ctypes

    value = ctypes.create_string_buffer(struct.pack("=II", 0x17, 0))
    request = struct.pack("16sQ16x", device.encode(), ctypes.addressof(value))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, 0x8946, request)


def names(made: bundle.Bundle, family: str) -> set[str]:
    """The chains of netc's table that the kernel has."""
    return backend.names(backend.list_table(family, "netc"), "chain")
