"""Devices above a nic (macvlan, bridge, VLAN, bond) take its packets before connection tracking does: what is left to stateful rules must not get by."""

from __future__ import annotations

import json
import socket
import subprocess
from collections.abc import Callable

import pytest

from compiler import frames
from runtime.lab import netns
from tests.kernel.apply.hosts import Host, udp

FILTER = """filter wan in {
  pass  udp dport 53   as dns
  pass  established    as est
  default drop
}
"""
MODES = ("native", "generic", "none")
ELSEWHERE_STAGE = {"native": "xdp", "generic": "xdp", "none": "ingress"}
MAC = "02:aa:00:00:00:01"


def policy(host: Host, mode: str = "native", more: str = "") -> str:
    return str(host.write(f"nic wan {{ device wan0; xdp {mode} }}\n{more}{FILTER}".encode(), "p.netc"))


def inside(namespace: str, script: str) -> str:
    return subprocess.run(["nsenter", f"--net=/run/netns/{namespace}", "sh", "-ec", script], check=True, capture_output=True, text=True).stdout


def listen(namespace: str, port: int) -> socket.socket:
    with netns.enter(namespace):
        heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        heard.bind(("192.0.2.1", port))
        heard.setblocking(False)
    return heard


def taken(heard: socket.socket) -> int:
    count = 0
    while True:
        try:
            heard.recv(2048)
        except BlockingIOError:
            return count
        count += 1


def send_to(host: Host, mac: str, port: int, count: int = 10) -> None:
    frame = frames.build(udp(port), dst_mac=mac)
    with netns.enter(host.peer), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("wan0p", 0))
        for _ in range(count):
            wire.send(frame)


def addressed(device: str) -> str:
    """Commands that let `device` take and answer what is sent to 192.0.2.1 from anywhere."""
    return (
        f"ip addr add 192.0.2.1/24 dev {device}; ip link set {device} up; ip route replace default dev {device}; "
        f"sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.{device}.rp_filter=0"
    )


@pytest.mark.parametrize("mode", MODES)
def test_a_container_on_a_macvlan_gets_only_what_was_passed(host: Host, make_netns: Callable[[], str], mode: str) -> None:
    """The macvlan is in another namespace, where netc has no rules: a packet that was left to connection tracking would never be judged."""
    other = make_netns()
    inside(host.netns, f"ip link add mv0 link wan0 type macvlan mode bridge; ip link set mv0 address {MAC} netns {other}")
    inside(other, addressed("mv0"))
    host.netc("apply", policy(host, mode))
    with listen(other, 1000) as dropped, listen(other, 53) as passed:
        send_to(host, MAC, 1000)
        send_to(host, MAC, 53)
        counts = host.counts()
        print(inside(other, 'nstat -az | grep -v " 0 "; ip -s link'), counts)
        assert taken(passed) == 10
        assert taken(dropped) == 0
    stage = ELSEWHERE_STAGE[mode]
    assert counts[stage, "wan.in.handed-on"] == counts[stage, "wan.in.elsewhere"] == 10
    assert host.json("verify")["ok"]


@pytest.mark.parametrize("mode", MODES)
def test_a_bridge_port_is_refused(host: Host, mode: str) -> None:
    inside(host.netns, "ip link add br0 type bridge; ip link set wan0 master br0")
    before = host.attached()
    refused = host.netc("apply", policy(host, mode), status=1)
    assert "wan0 is a port of a bridge" in refused.stderr and "stateless rules only" in refused.stderr
    after = host.attached()
    assert {key: after[key] for key in after if key != "pins"} == {key: before[key] for key in before if key != "pins"}


def test_a_bridge_port_takes_stateless_rules(host: Host) -> None:
    inside(host.netns, "ip link add br0 type bridge; ip link set wan0 master br0")
    host.netc("apply", host.write(b"nic wan { device wan0; xdp native }\nfilter wan in { pass udp dport 53 as dns; default drop }\n", "p.netc"))
    host.send(udp(53), 2)
    assert host.counts()["xdp", "wan.in.dns"] == 2


def test_a_device_that_becomes_a_bridge_port_is_told(host: Host) -> None:
    host.netc("apply", policy(host))
    assert host.json("verify")["ok"]
    inside(host.netns, "ip link add br0 type bridge; ip link set wan0 master br0")
    told = host.json("verify", status=1)
    assert any("port of a bridge" in json.dumps(finding) for finding in told["findings"]), told


def test_a_forward_filter_refuses_a_port(host: Host) -> None:
    """Forwarded packets name the bridge as their device: a filter between its ports would never be asked."""
    inside(host.netns, "ip link add lan0 type veth peer name lan1; ip link add br0 type bridge; ip link set lan0 master br0")
    text = b"nic wan { device wan0; xdp none }\nnic lan { device lan0; xdp none }\nfilter wan -> lan { pass established as est; default drop }\n"
    assert "lan0 is a port of a bridge" in host.netc("apply", host.write(text, "p.netc"), status=1).stderr


STACKED = """nic wan { device wan0; xdp native }
nic xup { device up0; xdp generic }
""" + FILTER + """filter xup in {
  pass  udp dport 1000 as app
  drop  invalid        as junk
  default pass
}
"""


def test_a_nic_on_another_nic_does_not_unmake_its_rules(host: Host) -> None:
    """What wan hands on is still judged by wan's stateful rules when a nic above, here a macvlan with the same address, passes it."""
    inside(host.netns, "ip link add up0 link wan0 type macvlan mode passthru; " + addressed("up0"))
    host.netc("apply", host.write(STACKED.encode(), "p.netc"))
    mac = json.loads(host.run("ip", "-j", "link", "show", "wan0"))[0]["address"]
    with listen(host.netns, 1000) as heard:
        send_to(host, mac, 1000)
        counts = host.counts()
        assert taken(heard) == 0
    assert counts["xdp", "xup.in.app"] == 10
    assert counts["conntrack", "wan.in.default"] == 10


def test_a_packet_without_a_verdict_is_pending_above_a_shaped_nic(host: Host) -> None:
    """What an ifb gives back skips the nft ingress hook: the carrier itself has to say that a packet is pending when XDP said nothing."""
    inside(host.netns, "ip link add up0 link wan0 type macvlan mode passthru; " + addressed("up0"))
    host.netc("apply", policy(host, more="shape wan in rate 900mbit { class all { default; queue pfifo } }\n"))
    link = next(path for path in (host.directory / "bpf/links").iterdir() if path.name.endswith("-xdp"))
    link.unlink()  # XDP is gone: nothing says what it would have
    mac = json.loads(host.run("ip", "-j", "link", "show", "wan0"))[0]["address"]
    with listen(host.netns, 1000) as heard:
        send_to(host, mac, 1000)
        assert host.counts()["conntrack", "wan.in.default"] == 10
        assert taken(heard) == 0
