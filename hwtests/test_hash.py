"""The RSS hash on a NIC: the policy's key, both directions on one queue, and `netc where`, which tells each flow's queue before it comes."""

from __future__ import annotations

import json

from compiler.tables import toeplitz
from hwtests.rack import flows
from hwtests.rack.flows import FLOWS
from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.requires import requires

NIC = "nic wan { device DEVICE }\n"
KEY = "6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa"


@requires("rss.indirection>=2", "rss.key", "rss.key_size==40", "rss.fields", "channels.combined>=4")
def test_the_policy_s_key_decides(port: Port, installed: Installed) -> None:
    """Each flow in the queue that the written key says, and `netc where` said so before it was sent."""
    installed.apply(NIC + f"steer wan {{\n  queues 4\n  hash udp by addresses, ports key {KEY}\n  default to queues 0-2\n}}")
    words = [f"udp {port.far_address}:{20000 + flow} -> {port.address}:5000" for flow in range(FLOWS)]
    told = json.loads(port.machine.netc("where", "wan", *words, "--json").out)["packets"]
    came = flows.queues(port, port.frames(words))
    ends = bytes(map(int, port.far_address.split("."))), bytes(map(int, port.address.split(".")))
    size = int(port.profile["rss"]["indirection"])
    table = [entry % 3 for entry in range(size)]
    assert came == {(20000 + flow, 5000): toeplitz.queue(bytes.fromhex(KEY), table, *ends, 20000 + flow, 5000) for flow in range(FLOWS)}
    assert [answer["answers"][0]["numbers"] for answer in told] == [[came[20000 + flow, 5000]] for flow in range(FLOWS)]
    assert set(came.values()) == {0, 1, 2}


@requires("rss.indirection>=2", "rss.key", "rss.fields", "channels.combined>=4")
def test_symmetric_hashes_both_directions_alike(port: Port, installed: Installed) -> None:
    """What goes from A to B and what goes from B to A (a router sees both) come in by one queue."""
    installed.apply(NIC + "steer wan {\n  queues 4\n  hash udp by addresses, ports symmetric\n  default to queues 0-2\n}")
    there = flows.queues(port, port.frames([f"udp {port.far_address}:{20000 + flow} -> {port.address}:5000" for flow in range(FLOWS)]))
    back = flows.queues(port, port.frames([f"udp {port.address}:5000 -> {port.far_address}:{20000 + flow}" for flow in range(FLOWS)]))
    assert len(there) == FLOWS
    assert {(dport, sport): queue for (sport, dport), queue in back.items()} == there
    assert len(set(there.values())) > 1, "and they are spread"
