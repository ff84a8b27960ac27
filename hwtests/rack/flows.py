"""Flows at a port and where they came in: the frames, the CPU or queue that took each, the queue that Toeplitz says, and what `netc verify --steering` says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from compiler.tables import toeplitz
from hwtests.rack import ethtool, wire
from hwtests.rack.errors import CommandFailed
from hwtests.rack.port import Port
from hwtests.rack.wire import Frame

FLOWS = 64
WATCH = "3"  # seconds that `netc verify --steering` watches: some hundred packets


def udp(port: Port, dport: int, flows: int = FLOWS) -> list[bytes]:
    """One frame a flow, from as many source ports."""
    return port.frames([f"udp {port.far_address}:{20000 + flow} -> {port.address}:{dport}" for flow in range(flows)])


def mixed(port: Port, dport: int = 80, flows: int = 120) -> list[bytes]:
    """One frame a flow, over both transports, from many addresses and ports."""
    kinds = [("tcp", " ack"), ("udp", "")]
    words = [(*kinds[n % 2], f"198.51.100.{n % 200 + 1}:{20000 + 37 * n}") for n in range(flows)]
    return port.frames([f"{kind} {source} -> {port.address}:{dport}{flags}" for kind, flags, source in words])


def taken(port: Port, frames: list[bytes], by: str, ways: int) -> list[Frame]:
    """The UDP frames as this device's stack got them, each with its CPU (`by="cpu"`: way = CPU) or queue (`by="queue"`: way = queue + 1)."""
    with wire.listening(port.machine, port.device, snap=64, by=by, ways=ways) as heard:
        port.wire.send(frames, rate=2000)
        heard.wait(len(frames))
    if heard.lost:
        raise CommandFailed(f"{port.name}: {heard.lost} frames had no room in the listener's sockets")
    return [frame for frame in heard.frames if frame.proto == 17]


def queues(port: Port, frames: list[bytes]) -> dict[tuple[int, int], int]:
    """Source and destination port of each flow → the queue that it came in by."""
    return {ports(frame): frame.way - 1 for frame in taken(port, frames, "queue", int(port.profile["queues"]) + 1)}


def ports(frame: Frame) -> tuple[int, int]:
    """Source and destination port of a UDP frame without tags and IP options."""
    return int.from_bytes(frame.data[34:36]), int.from_bytes(frame.data[36:38])


def predicted(port: Port, frames: list[bytes]) -> dict[tuple[int, int], int]:
    """The queue of each UDP flow by key, fields and table as the device shows them."""
    key, table, fields = ethtool.hash_key(port), ethtool.table(port), ethtool.hash_fields(port)
    flows = [(frame[26:30], frame[30:34], int.from_bytes(frame[34:36]), int.from_bytes(frame[36:38])) for frame in frames]
    return {flow[2:]: toeplitz.queue(key, table, *flow, fields=fields) for flow in flows}


def watched(port: Port, frames: Sequence[bytes], status: int = 0) -> list[dict[str, Any]]:
    """What `netc verify --steering` says while these frames arrive again and again. Raises CommandFailed for another exit status."""
    with ThreadPoolExecutor(1) as beside:
        verify = beside.submit(port.machine.netc, "verify", "--steering", WATCH, "--json", status=None)
        while not verify.done():
            port.wire.send(frames, rate=400)
    done = verify.result()
    if done.code != status:
        raise CommandFailed(f"{port.name}: netc verify --steering: exit status {done.code}, not {status}: {done.out}\n{done.err}")
    findings: list[dict[str, Any]] = [finding for finding in json.loads(done.out)["findings"] if finding["kind"] == "steering"]
    return findings


def held(findings: list[dict[str, Any]], least: int) -> None:
    """All that was seen came where it was promised, and at least so many packets were seen. Raises AssertionError."""
    assert findings and all(finding["result"] == "held" for finding in findings), findings
    assert sum(int(finding["detail"].split()[0].replace(",", "")) for finding in findings) >= least, findings
