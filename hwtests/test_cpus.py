"""Flows to CPUs and to another NIC, seen by packets: XDP's cpumap and devmap, and RPS in the stack."""

from __future__ import annotations

from collections import Counter

from hwtests.rack import flows
from hwtests.rack.flows import FLOWS
from hwtests.rack.installed import Installed
from hwtests.rack.port import Port
from hwtests.rack.rack import Rack
from hwtests.rack.requires import requires

NIC = "nic wan { device DEVICE; xdp native }\n"


def cpus(port: Port) -> int:
    return int(port.profile["cpus"])


@requires("xdp.native", "xdp.redirect", "cpus>=2")
def test_to_cpus(port: Port, installed: Installed) -> None:
    """Each rule's flows on its CPU, all of them, whatever queue they arrived in; the counters and the watch say the same.

    `to queue 1` means the CPU that serves it where the NIC has no flow rules.
    """
    wanted = {5000: 0, 5001: 1}
    rules = ["udp dport 5000 to cpus 0 as zero", "udp dport 5001 to cpus 1 as one"]
    if not port.profile["ntuple"]["rules"]:
        wanted[5002] = 1
        rules.append("udp dport 5002 to queue 1 as queued")
    installed.apply(NIC + "steer wan {\n" + "\n".join(rules) + "\n}")
    sent = [frame for dport in wanted for frame in flows.udp(port, dport)]
    frames = flows.taken(port, sent, "cpu", cpus(port))
    assert Counter((frame.dport, frame.way) for frame in frames) == dict.fromkeys(wanted.items(), FLOWS)
    found = flows.watched(port, sent)  # exit status 0: all that `netc verify` looks at is right too
    assert len(found) == len(wanted) and all(finding["result"] == "held" for finding in found), found


@requires("xdp.native", "xdp.redirect", "cpus>=2")
def test_over_cpus(port: Port, installed: Installed) -> None:
    """`to cpus 0-1` uses both, and a flow stays on one."""
    installed.apply(NIC + "steer wan { udp dport 5000 to cpus 0-1 as both }")
    ways: dict[tuple[int, int], set[int]] = {}
    for frame in flows.taken(port, flows.udp(port, 5000) * 3, "cpu", cpus(port)):
        ways.setdefault(flows.ports(frame), set()).add(frame.way)
    assert len(ways) == FLOWS and all(len(seen) == 1 for seen in ways.values()), "a flow is not spread"
    assert {way for seen in ways.values() for way in seen} == {0, 1}


@requires("cpus>=2")
def test_rps_and_xps(port: Port, installed: Installed) -> None:
    """The stack spreads flows over CPUs without the NIC and without XDP: asked for by name, or where `default to queue 1` finds no table in the NIC."""
    rps = "rps on cpus 1" if port.profile["rss"]["indirection"] else "default to queue 1"
    installed.apply(f"nic wan {{ device DEVICE; xdp none }}\nsteer wan {{ {rps}; prefer xps on cpus 0 }}")
    queues = f"/sys/class/net/{port.device}/queues"
    inside = ("ip", "netns", "exec", port.machine.netns) if port.machine.netns else ()
    read = port.machine.run(*inside, "sh", "-c", f"cat {queues}/rx-0/rps_cpus; cat {queues}/tx-0/xps_cpus", status=None).out.split()
    assert int(read[0].replace(",", ""), 16) == 2
    assert installed.plan["skipped"] or int(read[1].replace(",", ""), 16) == 1, "a NIC with one queue has no XPS, and says so"
    frames = flows.taken(port, flows.udp(port, 5000), "cpu", cpus(port))
    assert Counter(frame.way for frame in frames) == {1: FLOWS}
    flows.held(flows.watched(port, flows.mixed(port)), 100)


@requires("xdp.native", "xdp.redirect")
def test_to_another_nic(port: Port, installed: Installed, rack: Rack) -> None:
    """Routed through another port by devmap: TTL less one, the right addresses, and nothing in the stack."""
    other = rack.other(port)
    installed.port.machine.change("sysctl", "-qw", "net.ipv4.ip_forward=1", undo=["sysctl", "-qw", "net.ipv4.ip_forward=0"])
    installed.apply(NIC + f"nic out {{ device {other.device}; xdp native }}\nsteer wan {{ dst {other.far_address} to nic out routed }}")
    frames = port.frames([f"udp {port.far_address}:{20000 + flow} -> {other.far_address}:7" for flow in range(FLOWS)])
    with other.wire.listening() as heard:
        port.wire.send(frames, rate=2000)
        heard.wait(FLOWS)
    came = [frame for frame in heard.frames if frame.dport == 7]
    assert len(came) == FLOWS
    assert {frame.data[22] for frame in came} == {63}, "TTL"
    assert {frame.data[:6].hex(":") for frame in came} == {other.wire.mac}
