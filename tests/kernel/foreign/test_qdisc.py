"""Somebody else's root qdisc: refused by name, taken over with its classes and filters when told to, and put back as it was."""

from __future__ import annotations

import subprocess

import pytest

from tests.kernel.apply.hosts import DNS, Host, made, program
from tests.kernel.foreign.conftest import tc, tree, unpinned

pytestmark = pytest.mark.needs("take-over")
SHAPED = program(DNS, shape=True)
HTB = (
    "qdisc add dev wan0 root handle 1: htb default 20 direct_qlen 33",
    "class add dev wan0 parent 1: classid 1:1 htb rate 5gbit ceil 40gbit",
    "class add dev wan0 parent 1:1 classid 1:10 htb rate 3mbit ceil 8mbit prio 2 quantum 3000 burst 20k",
    "class add dev wan0 parent 1:1 classid 1:20 htb rate 1mbit cburst 30k",
    "qdisc add dev wan0 parent 1:10 handle 10: bfifo limit 7777",
    "qdisc add dev wan0 parent 1:20 handle 20: tbf rate 1mbit burst 10k latency 20ms",
    "qdisc add dev wan0 parent 20:1 handle 21: pfifo limit 77",
    "filter add dev wan0 parent 1: protocol ip prio 5 u32 match ip dport 22 0xffff flowid 1:10",
    "filter add dev wan0 parent 1: protocol ip prio 5 u32 match ip src 192.0.2.0/24 match ip protocol 17 0xff flowid 1:20",
    "filter add dev wan0 parent 1:1 protocol ipv6 prio 7 u32 match u32 0 0 flowid 1:10",
)
TBF = ("qdisc add dev wan0 root handle 5: tbf rate 9mbit burst 10k latency 20ms", "qdisc add dev wan0 parent 5:1 handle 52: pfifo limit 5")
MQ = ("qdisc add dev wan0 root handle 7: mq", "qdisc add dev wan0 parent 7:2 handle 72: pfifo limit 12")
FIFO = ("qdisc add dev wan0 root pfifo limit 12",)



@pytest.mark.parametrize("lines", [HTB, TBF, MQ, FIFO], ids=["htb", "tbf", "mq", "pfifo"])
def test_a_tree_comes_back_as_it_was(host: Host, lines: tuple[str, ...]) -> None:
    tc(host, *lines)
    before = tree(host)
    bundle = host.write(made(SHAPED))
    told = host.netc("apply", bundle, status=1).stderr
    assert "a root qdisc of somebody else's" in told and "--take-over" in told and tree(host) == before, told
    assert "take over the root qdisc of wan0" in host.netc("plan", bundle, "--take-over", status=2).stdout
    assert tree(host) == before
    host.netc("apply", bundle, "--take-over")
    assert host.json("verify")["ok"] and len(host.json("status")["kept"]) == 1
    host.netc("apply", host.write(made(program(shape=True)), "second.bundle"))
    host.netc("rollback")
    said = host.netc("remove").stdout
    assert "put the root qdisc" in said, said
    assert tree(host) == before and unpinned(host)


def test_without_the_shape_it_comes_back(host: Host) -> None:
    tc(host, *HTB)
    before = tree(host)
    host.netc("apply", host.write(made(SHAPED)), "--take-over")
    host.netc("apply", host.write(made(program(DNS)), "second.bundle"))
    assert tree(host) == before and unpinned(host) and host.json("verify")["ok"]
    host.netc("remove")
    assert tree(host) == before


@pytest.mark.parametrize(("lines", "words"), [
    (("qdisc add dev wan0 root handle 1: stab overhead 24 linklayer ethernet htb default 1",), "has a size table"),
    (("qdisc add dev wan0 root handle 1: estimator 1sec 4sec htb",), "has a rate estimator"),
    ((*HTB[:4], "filter add dev wan0 parent 1: protocol ip prio 5 u32 match ip dport 22 0xffff police rate 1mbit burst 10k drop flowid 1:10"), "has actions"),
], ids=["size table", "estimator", "action"])  # fmt: skip
def test_what_cannot_be_put_back_is_not_taken(host: Host, lines: tuple[str, ...], words: str) -> None:
    try:
        tc(host, *lines)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"this kernel: {error.stderr.strip()}")
    before = tree(host)
    told = host.netc("apply", host.write(made(SHAPED)), "--take-over", status=1).stderr
    assert words in told and "only what it can put back" in told, told
    assert tree(host) == before and unpinned(host)


def test_a_failed_apply_puts_it_back(host: Host) -> None:
    tc(host, *HTB)
    before = tree(host)
    host.run("ethtool", "-L", "wan0", "rx", "1", "tx", "1")  # veth then refuses native XDP
    again = made(program(DNS, shape=True))
    host.netc("apply", host.write(again), "--take-over", status=1)
    assert tree(host) == before and unpinned(host)
