"""Where packets really go: each target of a steer rule, applied from policy text, seen by CPU behind XDP."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from compiler import ir
from tests.kernel.apply.hosts import Host

pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")
PORTS = (1000, 1001, 1002, 1003, 1004)
BY_XDP = """
nic wan { device wan0 }
filter wan in { pass udp as udp; default drop }
steer wan {
  udp dport 1000 to cpu 0   as zero
  udp dport 1001 to cpu 1   as one
  udp dport 1002 to queue 1 as queue
  udp dport 1003 to drop    as gone
  default to cpus 1
}
"""
BY_STACK = """
nic wan { device wan0; xdp none }
steer wan { default to cpus 1 }
"""


def spec(port: int) -> ir.PacketSpec:
    return ir.PacketSpec("udp", "192.0.2.2", "192.0.2.1", 40000, port)


@contextmanager
def sender_on(cpu: int) -> Iterator[None]:
    """veth receives on the CPU that sent."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpu})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def watch(host: Host) -> None:
    """Count by port and CPU where the stack takes packets over: nft at the device's ingress."""
    rules = "".join(f"    udp dport {port} meta cpu {cpu} counter name p{port}c{cpu}\n" for port in PORTS for cpu in (0, 1))
    counters = "".join(f"  counter p{port}c{cpu} {{ }}\n" for port in PORTS for cpu in (0, 1))
    path = host.write(f"table netdev watch {{\n{counters}  chain c {{ type filter hook ingress device wan0 priority -400;\n{rules}  }}\n}}\n".encode(), "watch.nft")
    host.run("nft", "-f", str(path))


def seen(host: Host, total: int) -> dict[str, int]:
    """port and CPU → packets, once `total` have come: another CPU may still be at it."""
    until = time.monotonic() + 20
    while True:
        listed = json.loads(host.run("nft", "-j", "list", "counters"))["nftables"]
        found = {item["counter"]["name"]: item["counter"]["packets"] for item in listed if item.get("counter", {}).get("table") == "watch"}
        if sum(found.values()) >= total or time.monotonic() > until:
            return {name: packets for name, packets in found.items() if packets}
        time.sleep(0.02)


def test_xdp_takes_each_rule_s_packets_where_it_says(host: Host) -> None:
    watch(host)
    host.netc("apply", host.write(BY_XDP.encode(), "p.netc"))
    with sender_on(0):
        for port in PORTS:
            host.send(spec(port), 20)
    assert seen(host, 80) == {"p1000c0": 20, "p1001c1": 20, "p1002c1": 20, "p1004c1": 20}
    counted = {name: packets for (_, name), packets in host.counts().items()}
    steered = {name: packets for name, packets in counted.items() if name.startswith("wan.steer.")}
    assert steered == {f"wan.steer.{name}": 20 for name in ("zero", "one", "queue", "gone", "default")}
    assert counted["wan.in.udp"] == 100, "what steering drops has passed the filter"
    host.netc("verify")


def test_the_stack_spreads_where_xdp_may_not(host: Host) -> None:
    watch(host)
    with sender_on(0):
        host.send(spec(1000), 20)
        assert seen(host, 20) == {"p1000c0": 20}
        host.netc("apply", host.write(BY_STACK.encode(), "p.netc"))
        host.send(spec(1001), 20)
        assert seen(host, 40) == {"p1000c0": 20, "p1001c1": 20}
        host.netc("verify")
        host.netc("remove")
        host.send(spec(1002), 20)
        assert seen(host, 60) == {"p1000c0": 20, "p1001c1": 20, "p1002c0": 20}


def test_where_a_packet_comes_is_told_without_sending_it(host: Host) -> None:
    host.netc("apply", host.write(BY_XDP.encode(), "p.netc"))
    first, second = host.json("where", "wan", "udp 192.0.2.2:40000 -> 192.0.2.1:1001", "tcp 192.0.2.2:40000 -> 192.0.2.1:80")["packets"]
    queue, cpu = first["answers"]
    assert (queue["numbers"], cpu["what"], cpu["numbers"], cpu["by"]) == ([], "cpu", [1], "udp dport 1001 to cpu 1 as one")
    assert "ETHTOOL_GRSSH: Operation not supported" in queue["why"], "veth has no RSS"
    assert [answer["numbers"] for answer in second["answers"]] == [[], []], "the filter drops it: nobody steers it"
    said = host.netc("where", "wan", "udp 192.0.2.2:40000 -> 192.0.2.1:1002").stdout
    assert "on wan (wan0):" in said and "udp dport 1002 to queue 1 as queue" in said
    assert "it has wan" in host.netc("where", "lan", "udp 192.0.2.2:1 -> 192.0.2.1:2", status=2).stderr
    assert "N083" in host.netc("where", "wan", "gre 192.0.2.2", status=1).stderr
