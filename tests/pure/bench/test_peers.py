"""A filter in other tools' words: line by line what is meant, and a reason where they have no words."""

from __future__ import annotations

import struct
from pathlib import Path
from random import Random

import pytest

from compiler import ir, profile
from compiler.bench import flows, material, peers
from compiler.pipeline import compile_policy
from compiler.source import Sources

HEAD = """nic wan { device wan0 }
set near = { 198.51.100.0/25, 2001:db8:1::/48 }
set banned : address timeout 10m
filter wan in {
"""


def chain(rules: str, default: str, folder: Path) -> tuple[ir.Chain, dict[str, ir.Set]]:
    (folder / "p.netc").write_text(f"{HEAD}{rules}\n  default {default}\n}}\n")
    program = compile_policy(folder / "p.netc", profile.default(), Sources()).program
    return program.chains[0], {item.name: item for item in program.sets}


def iptables(rules: str, folder: Path) -> list[list[str]]:
    found, sets = chain(rules, "drop", folder)
    return [list(item.lines) for item in peers.iptables(found.rules, sets)]


@pytest.mark.parametrize(
    ("rule", "v4", "v6"),
    [
        ("pass tcp dport 22", ["-p 6 --dport 22:22"], ["-p 6 --dport 22:22"]),
        ("pass tcp dport { 80, 8080-8089 }", ["-p 6 -m multiport --dports 80,8080:8089"], ["-p 6 -m multiport --dports 80,8080:8089"]),
        ("pass dport 53", [f"-p {n} --dport 53:53" for n in (6, 17, 132)], [f"-p {n} --dport 53:53" for n in (6, 17, 132)]),
        ("pass src in near", ["-s 198.51.100.0/25"], ["-s 2001:db8:1::/48"]),
        ("pass ip4 not src 128.0.0.0/1", ["-s 0.0.0.0/1"], []),
        ("pass tcp flags syn not flags ack", ["-p 6 --tcp-flags SYN,ACK SYN"], ["-p 6 --tcp-flags SYN,ACK SYN"]),
        ("pass icmp echo-request", ["-p 1 --icmp-type 8"], ["-p 58 --icmpv6-type 128"]),
        ("pass proto esp", ["-p 50"], ["-p 50"]),
        ("pass not tcp", ["! -p 6"], ["! -p 6"]),
        ("drop malformed", [], []),
        ("pass tcp dport 1 or udp dport 2", ["-p 6 --dport 1:1", "-p 17 --dport 2:2"], ["-p 6 --dport 1:1", "-p 17 --dport 2:2"]),
    ],
)
def test_iptables_lines(rule: str, v4: list[str], v6: list[str], tmp_path: Path) -> None:
    assert iptables(rule, tmp_path) == [v4, v6]


@pytest.mark.parametrize(
    ("rule", "reason"),
    [
        ("pass tcp dport 22 limit 10pps", "limits and effects"),
        ("drop src in banned", "dynamic sets"),
        ("pass ttl 3", "`ttl` is not translated"),
        ("pass src not in near", "lines"),
        ("pass not tcp not udp", "one protocol at a time"),
    ],
)
def test_what_iptables_cannot_say_is_named_with_the_rule(rule: str, reason: str, tmp_path: Path) -> None:
    rule = rule.replace("src not in near", "src 0.0.0.1-255.255.255.254 dst 0.0.0.1-255.255.255.254")
    with pytest.raises(peers.CannotSay, match=reason) as told:
        iptables(rule, tmp_path)
    assert str(told.value).startswith("`")


def test_xdp_filter_says_lists_of_hosts_and_ports(tmp_path: Path) -> None:
    found, sets = chain("drop tcp dport 80\n drop src 192.0.2.7\n drop udp sport { 53, 123 }\n drop dst 2001:db8::7", "pass", tmp_path)
    said = peers.xdp_filter(found.rules, found.default, sets)
    assert said.lines == ("port 80 -p tcp -m dst", "ip 192.0.2.7 -m src", "port 53 -p udp -m src", "port 123 -p udp -m src", "ip 2001:db8::7 -m dst")
    assert said.rules == (0, 1, 2, 2, 3)


@pytest.mark.parametrize(
    "rules", ["drop src 192.0.2.0/24", "drop tcp dport 80 src 192.0.2.1", "drop dport 80", "drop tcp", "pass tcp dport 80", "drop tcp dport 80\n pass udp dport 53"]
)
def test_what_xdp_filter_cannot_say(rules: str, tmp_path: Path) -> None:
    found, sets = chain(rules, "pass", tmp_path)
    with pytest.raises(peers.CannotSay):
        peers.xdp_filter(found.rules, found.default, sets)


def test_the_reason_goes_with_the_material(tmp_path: Path) -> None:
    (tmp_path / "p.netc").write_text(f"{HEAD}  pass ttl 3\n  default drop\n}}\n")
    made = material.make(tmp_path / "p.netc", profile.default(), Sources(), material.Wanted(1, peers=("iptables", "xdp-filter")))
    assert made.peers == () and made.refused["iptables"].startswith("not comparable: `pass ttl 3`") and "xdp-filter" in made.refused


def test_ipv4_headers_have_right_checksums() -> None:
    drawing, seen = flows.Drawing(Random(1), (), {}), 0
    for _ in range(50):
        flow = drawing.anything()
        assert flow is not None
        if "ip4" in flow.kinds:
            total = sum(struct.unpack("!10H", flow.frame[14:34]))
            assert (total & 0xFFFF) + (total >> 16) == 0xFFFF
            seen += 1
    assert seen
