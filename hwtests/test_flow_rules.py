"""Flow rules: a rule's own flows to one queue, to several by an RSS context, or nowhere; by the NIC where it can, else by XDP."""

from __future__ import annotations

from collections import Counter

from hwtests.rack import flows
from hwtests.rack.flows import FLOWS
from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.requires import requires

NIC = "nic wan { device DEVICE }\n"


@requires("xdp.native")
def test_drop(port: Port, installed: Installed) -> None:
    """`to drop` is behind the filter: what it takes never reaches the stack, what it does not name does."""
    installed.apply("nic wan { device DEVICE; xdp native }\nsteer wan { udp dport 9 to drop as discard }")
    before = installed.counters()
    frames = flows.taken(port, [*flows.udp(port, 9), *flows.udp(port, 5000)], "cpu", int(port.profile["cpus"]))
    assert Counter(frame.dport for frame in frames) == {5000: FLOWS}
    after = installed.counters()
    assert [after[name] - before[name] for name in after if name.endswith("discard")] == [FLOWS]


@requires("ntuple.rules>=1", "queues>=2")
def test_flow_rule_to_queue(port: Port, installed: Installed) -> None:
    """A flow rule in the NIC takes its flows to one queue; others stay where RSS has them."""
    installed.apply(NIC + "steer wan { udp dport 5001 to queue 1 as one }")
    came = flows.queues(port, [*flows.udp(port, 5001), *flows.udp(port, 5000)])
    assert {queue for (_, dport), queue in came.items() if dport == 5001} == {1}
    assert len(came) == 2 * FLOWS


@requires("rss.contexts>=1", "ntuple.contexts", "queues>=4")
def test_context(port: Port, installed: Installed) -> None:
    """Rules to several queues: an RSS context of their own, and none of their packets elsewhere."""
    installed.apply(NIC + "steer wan {\n  udp dport 5001 to queues 2-3 as two\n  default to queues 0-1\n}")
    came = flows.queues(port, [*flows.udp(port, 5001), *flows.udp(port, 5000)])
    assert {queue for (_, dport), queue in came.items() if dport == 5001} == {2, 3}
    assert {queue for (_, dport), queue in came.items() if dport == 5000} <= {0, 1}
