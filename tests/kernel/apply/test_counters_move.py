"""A policy that outgrows its nic's counter map, or shrinks, moves to another one: no packet is lost or counted twice, buckets stay."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compiler import bundle as bundles
from compiler import frames, ir
from runtime import apply, state
from runtime.context import Context
from runtime.lab import netns
from runtime.steps import Step
from runtime.transaction import TransactionFailed
from tests.kernel.apply.hosts import DNS, SSH, Host, made, program, tcp, udp

SMALL, LARGE, LARGER = bundles.COUNTER_SLOTS[:3]
SLOW = ir.Rule("slow", "pass", ir.And((ir.Is("tcp"), ir.Within(ir.Field.DPORT, ((80, 80),)))), limit=ir.Limit("wan.in.slow", 64 * 3600 * 10**9, 5))


@contextmanager
def counter_map(size: int) -> Iterator[None]:
    """Policies are compiled for a counter map of this size: ten thousand rules would say no more."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bundles, "counter_slots", lambda counters: size)
        yield


def write(host: Host, size: int, *rules: ir.Rule, shape: bool = False) -> Path:
    with counter_map(size):
        return host.write(made(program(*rules, shape=shape)), f"{size}-{len(rules)}.bundle")


def counted(host: Host) -> dict[str, int]:
    assert host.json("verify")["ok"]
    return {name.removeprefix("wan.in."): packets for (stage, name), packets in host.counts().items() if stage == "xdp"}


def maps(host: Host) -> list[str]:
    return sorted(path.name for path in (host.directory / "bpf" / "maps").iterdir() if path.name.startswith(("wan~counters", "wan~owners")))


def test_counters_go_on_in_a_larger_map_and_in_a_smaller_one_again(host: Host) -> None:
    host.netc("apply", write(host, SMALL, SSH, DNS))
    host.send(tcp(22), 5)
    host.send(udp(53), 3)
    host.send(tcp(23), 2)
    done = host.netc("apply", write(host, LARGE, SSH, SLOW))  # dns leaves, slow comes
    assert "move the counters of wan from 16,384 places to 32,768" in done.stdout + done.stderr
    assert counted(host) == {"seen": 10, "ssh": 5, "slow": 0, "default": 2, "control": 0, "retired": 3}
    assert len(maps(host)) == 2 and not any(name.endswith("-16384-0") for name in maps(host))
    host.send(tcp(22), 2)
    host.send(tcp(23), 1)
    assert counted(host) == {"seen": 13, "ssh": 7, "slow": 0, "default": 3, "control": 0, "retired": 3}
    host.netc("apply", write(host, LARGER, SSH, DNS))  # dns comes back, in a third map
    host.send(udp(53), 4)
    assert counted(host) == {"seen": 17, "ssh": 7, "dns": 7, "default": 3, "control": 0}
    host.netc("apply", write(host, SMALL, SSH))
    host.netc("apply", write(host, SMALL, SSH, DNS))
    host.send(udp(53), 1)
    assert counted(host) == {"seen": 18, "ssh": 7, "dns": 8, "default": 3, "control": 0}


def test_the_counters_of_every_program_of_the_nic_move(host: Host) -> None:
    host.netc("apply", write(host, SMALL, SSH, shape=True))
    with netns.enter(host.netns), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as wire:
        wire.bind(("wan0", 0))
        for _ in range(4):
            wire.send(frames.build(tcp(22)))
    before = {key: packets for key, packets in host.counts().items() if key[0] == "tc"}
    assert before["tc", "wan.shape.out.seen"] == before["tc", "wan.shape.out.bulk"] == 4
    host.netc("apply", write(host, LARGE, SSH, DNS, shape=True))
    after = {key: packets for key, packets in host.counts().items() if key[0] == "tc"}
    assert after == before and host.json("verify")["ok"]


def test_a_bucket_stays_where_it_is(host: Host) -> None:
    host.netc("apply", write(host, SMALL, SLOW, SSH))
    host.send(tcp(80), 7)
    host.netc("apply", write(host, LARGE, DNS, SSH, SLOW))
    host.send(tcp(80), 4)
    assert counted(host) == {"seen": 11, "slow": 5, "ssh": 0, "dns": 0, "default": 6, "control": 0}


class Failure(Exception):
    """What ends an apply that was all done."""


@pytest.mark.parametrize("fails", [False, True], ids=["done", "taken back"])
def test_packets_between_any_two_steps(host: Host, fails: bool) -> None:
    """While maps are exchanged nothing is lost, also where the apply is taken back."""
    store, context = state.Store(host.directory / "state"), Context(host.directory / "state", host.directory / "bpf")
    sent = {False: 0, True: 0}  # by whether the new program runs
    new = False

    def report(what: str, step: Step) -> None:
        nonlocal new
        if fails and what == "check":
            raise Failure
        host.send(tcp(22), 3)
        sent[new] += 3
        if step.text.startswith("replace wan.xdp"):
            new = what != "undo"

    host.netc("apply", write(host, SMALL, SSH))
    host.send(tcp(22), 3)
    change = apply.Change("apply", write(host, LARGE, SSH, DNS).read_bytes(), {"wan": "wan0"})
    with netns.enter(host.netns):
        if fails:
            with pytest.raises(TransactionFailed):
                apply.apply(store, context, change, report)
        else:
            apply.apply(store, context, change, report)
    host.send(tcp(22), 2)
    whole = 5 + sent[False] + sent[True]
    assert min(sent.values()) >= 6
    assert (found := counted(host))["seen"] == found["ssh"] == whole
    with netns.enter(host.netns):
        apply.apply(store, context, change, lambda what, step: None)
    assert counted(host)["ssh"] == whole
