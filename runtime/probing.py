"""Does what is protected still arrive? One real frame a flow, put into the device behind its driver, judged by everything that runs there, and caught
just before a socket would see it (docs/decisions/0011).

A test run with live frames runs the very program that the device's link runs, and hands what passes to the stack: tc, nft and other people's tables
judge it. The table `inet netc-probe` has the last word on it at the hook `input`, or `prerouting` where the address is not of this host (the promise
ends there): it counts it and drops it. Nothing is answered, no socket sees it, connection tracking confirms nothing. The frame is known by its addresses, its
ports and a number in its IP header, so nothing else is caught.
"""

from __future__ import annotations

import secrets
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec

from runtime import probe_frame
from runtime.backends import bpf
from runtime.backends import nft as backend
from runtime.backends.netlink import NetlinkError
from runtime.backends.nft import Json, NftError
from runtime.backends.routes import Address
from runtime.context import Context, Device
from runtime.probe_frame import Packet
from runtime.steps import xdp_pins

TABLE = "netc-probe"
PATIENCE = 0.5  # seconds for a frame that waits in a queue (a shape, another CPU)
_LAST = (1 << 31) - 1  # the last priority of a hook; before what has the same and was there earlier
_PASS = struct.pack("<BBhi", 0xB7, 0, 0, 2) + struct.pack("<BBhi", 0x95, 0, 0, 0)  # r0 = XDP_PASS; exit
PORTS = {6: "tcp", 17: "udp", 132: "sctp"}


class ProbeError(Exception):
    """No frame can be sent or caught here. The text says why."""


@dataclass(frozen=True, slots=True)
class Probe:
    """One frame and where it goes in. text: the flow, for people. local: the address is one of this host."""

    text: str
    device: Device
    packet: Packet
    local: bool


def arrived(context: Context, probes: Sequence[Probe]) -> list[bool]:
    """Of each probe whether it got all the way. Raises ProbeError."""
    if not probes:
        return []
    try:
        with _table(probes):
            for probe in probes:
                _inject(context, probe)
            return _counted(len(probes))
    except (NftError, bpf.BpfError, NetlinkError) as error:
        raise ProbeError(str(error)) from None


@contextmanager
def _table(probes: Sequence[Probe]) -> Iterator[None]:
    backend.run([*_gone(), *_content(probes)])
    try:
        yield
    finally:
        backend.run(_gone())


def remove_stray() -> None:
    """The table of a probe that was cut short; where libnftables' binding is not installed, none was made. Raises NftError."""
    if find_spec("nftables") and ("inet", TABLE) in backend.tables():
        backend.run(_gone())


def _gone() -> list[Json]:
    """Adding it first lets the deletion never fail."""
    table = {"table": {"family": "inet", "name": TABLE}}
    return [{"add": table}, {"delete": table}]


def _content(probes: Sequence[Probe]) -> Iterator[Json]:
    own = {"family": "inet", "table": TABLE}
    yield {"add": {"table": {"family": "inet", "name": TABLE}}}
    for hook in ("input", "prerouting"):
        yield {"add": {"chain": {**own, "name": hook, "type": "filter", "hook": hook, "prio": _LAST, "policy": "accept"}}}
    for number, probe in enumerate(probes):
        yield {"add": {"counter": {**own, "name": f"p{number}"}}}
        expr = [*_match(probe.packet), {"counter": f"p{number}"}, {"drop": None}]
        yield {"add": {"rule": {**own, "chain": "input" if probe.local else "prerouting", "expr": expr}}}


def _match(packet: Packet) -> Iterator[Json]:
    ip, number = ("ip", "id") if packet.src.version == 4 else ("ip6", "flowlabel")
    yield _is({"payload": {"protocol": ip, "field": "saddr"}}, str(packet.src))
    yield _is({"payload": {"protocol": ip, "field": "daddr"}}, str(packet.dst))
    yield _is({"payload": {"protocol": ip, "field": number}}, packet.number)
    yield _is({"meta": {"key": "l4proto"}}, packet.proto)
    if packet.proto in PORTS:
        for field, port in (("sport", packet.sport), ("dport", packet.dport)):
            yield _is({"payload": {"protocol": PORTS[packet.proto], "field": field}}, port)


def _is(left: Json, right: str | int) -> Json:
    return {"match": {"op": "==", "left": left, "right": right}}


def _counted(number: int) -> list[bool]:
    """Waits for all of them, as long as a frame may take."""
    deadline, pause = time.monotonic() + PATIENCE, 0.002
    while True:
        counters = backend.counters("inet", TABLE)
        found = [counters.get(f"p{each}", (0, 0))[0] > 0 for each in range(number)]
        if all(found) or time.monotonic() > deadline:
            return found
        time.sleep(pause)
        pause *= 2


def _inject(context: Context, probe: Probe) -> None:
    """Through the program that the device's link runs now, so that what it passes goes on from there."""
    data = probe_frame.frame(probe.packet)
    meta = struct.pack("=6I", 0, len(data), 0, probe.device.ifindex, 0, 0)  # struct xdp_md
    with bpf.Fd(_program(context, probe.device)) as program:
        bpf.test_run(program, data, meta, 1, bpf.TEST_XDP_LIVE_FRAMES, 1)


def _program(context: Context, device: Device) -> int:
    """A descriptor of what judges the device's packets in XDP; of a program that passes all where nothing of netc's does."""
    with xdp_pins.opened_if_there(xdp_pins.links(context) / f"{xdp_pins.pin_name(device.nic)}-xdp") as link:
        number = bpf.link_info(link).prog_id if link is not None else 0
    if not number:
        return bpf.load_program("xdp", _PASS, {}, "netc_probe", bpf.XDP, frags=True)
    for path in context.bpffs.glob("*/*"):
        with xdp_pins.opened_if_there(path) as pinned:
            if pinned is not None and bpf.is_program(pinned) and bpf.prog_info(pinned).id == number:
                return bpf.get_pinned(path)
    return bpf.prog_by_id(number)  # not one that is pinned; asks for CAP_SYS_ADMIN


def port() -> int:
    """A source port that hardly any connection has: it is only ours together with the number in the IP header."""
    return 49152 + secrets.randbelow(1 << 14)


def number(address: Address) -> int:
    """A number for the IP header, not zero."""
    return 1 + secrets.randbelow((1 << (16 if address.version == 4 else 20)) - 1)


def failed(probes: Sequence[Probe], before: Mapping[Probe, bool], after: Sequence[bool]) -> tuple[list[Probe], list[Probe]]:
    """Probes that arrived before and do not any more; and those that never did."""
    lost = [probe for probe, here in zip(probes, after, strict=True) if not here]
    return [probe for probe in lost if before[probe]], [probe for probe in lost if not before[probe]]
