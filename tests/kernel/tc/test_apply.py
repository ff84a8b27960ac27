"""The whole way: plan, transaction, counters and removal, with the programs attached by the product's own steps."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from compiler import bundle
from runtime import counters, plan, transaction
from runtime.backends import bpf
from runtime.lab import netns
from runtime.state import Store
from runtime.steps import xdp as xdp_steps
from tests.kernel.tc.shaped import (
    FAR,
    FAR_IP,
    MBIT,
    NEAR,
    NEAR_IP,
    Pair,
    compiled,
    frame,
    out_frame,
    packet_socket,
    port,
    rest,
    shape,
    udp_socket,
)
from tests.kernel.tc.test_ingress import carried_chain
from tests.kernel.tc.test_swap import shown


class NoLog:
    """A journal for a test that does not crash."""

    def started(self, number: int, text: str) -> None: ...

    def close(self) -> None: ...

    def finished(self, number: int, saved: object) -> None: ...


@pytest.fixture
def placed_pair(pair: Pair) -> Iterator[Pair]:
    """With a bpf file system of its own."""
    bpf.mount_bpffs(pair.context.bpffs)
    yield pair
    left = [str(path) for path in pair.context.bpffs.rglob("*") if not path.is_dir() and path.suffix != ".debug"]
    subprocess.run(["umount", pair.context.bpffs], check=True)
    assert not left, f"pins left behind: {left}"


def apply(pair: Pair, new: bundle.Bundle | None, old: bundle.Bundle | None, generation: int) -> None:
    with netns.enter(pair.near):
        if new is not None:
            store = Store(pair.context.state)
            store.prepare()
            store.write_slots(xdp_steps.assign_slots(new, store.slots()))
        planned = plan.build(pair.context, new, old, generation)
        left = transaction.run(planned.ordered(), NoLog(), lambda: None, lambda what, step: None)
        assert not left


def readings(pair: Pair, installed: bundle.Bundle) -> dict[str, counters.Reading]:
    with netns.enter(pair.near):
        found = counters.read(pair.context, installed)
    assert all(balance.gap == 0 for balance in counters.balances(found)), found
    return {reading.counter.name: reading for reading in found}


def test_apply_change_and_remove(placed_pair: Pair) -> None:
    pair = placed_pair
    first = compiled(shape("out", 100 * MBIT, port("web", 80, min=MBIT), rest()), shape("in", 50 * MBIT, rest()), chain=carried_chain())
    second = compiled(shape("out", 80 * MBIT, port("dns", 53), port("web", 80), rest()), shape("in", 40 * MBIT, rest()), chain=carried_chain())
    with netns.enter(pair.near):
        bare = shown(pair)
    apply(pair, first, None, 1)
    send(pair, 3)
    found = readings(pair, first)
    assert [found[f"wan.shape.{name}"].packets for name in ("out.seen", "out.web", "out.rest", "in.seen")] == [9, 3, 6, 6]
    assert (found["wan.in.seen"].packets, found["wan.in.known"].packets, found["wan.in.handed-on"].packets) == (6, 3, 3)
    assert (found["wan.shape.out.web"].drops, found["wan.shape.out.web"].backlog) == (0, 0)
    apply(pair, second, first, 2)
    send(pair, 2)
    found = readings(pair, second)
    assert [found[f"wan.shape.{name}"].packets for name in ("out.seen", "out.web", "out.dns", "out.rest")] == [15, 5, 2, 8]
    apply(pair, None, second, 3)
    with netns.enter(pair.near):
        assert shown(pair) == bare


def send(pair: Pair, count: int) -> None:
    """Out: to ports 80, 53 and 9. In: to port 5000, which XDP knows, and 6000. Returns when all of it has arrived (nobody answers by ICMP)."""
    with ExitStack() as open_:
        out, back = (open_.enter_context(packet_socket(*end)) for end in ((pair.near, NEAR), (pair.far, FAR)))
        sinks = [open_.enter_context(udp_socket(pair.far, (FAR_IP, number))) for number in (80, 53, 9)]
        sinks += [open_.enter_context(udp_socket(pair.near, (NEAR_IP, number))) for number in (5000, 6000)]
        for _ in range(count):
            for number in (80, 53, 9):
                out.send(out_frame(number))
            for number in (5000, 6000):
                back.send(frame(number))
        for sink in sinks:
            for _ in range(count):
                sink.recv(2000)


def test_a_failure_after_the_flip_undoes_everything(placed_pair: Pair) -> None:
    """The transaction's last check fails: qdiscs, ifb, links and pins are as they were."""
    pair = placed_pair
    new = compiled(shape("out", 100 * MBIT, rest()), shape("in", 50 * MBIT, rest()))

    def refuse() -> None:
        raise RuntimeError("the disk is full")

    with netns.enter(pair.near):
        bare = shown(pair)
        store = Store(pair.context.state)
        store.prepare()
        store.write_slots(xdp_steps.assign_slots(new, {}))
        planned = plan.build(pair.context, new, None, 1)
        with pytest.raises(transaction.TransactionFailed) as failure:
            transaction.run(planned.ordered(), NoLog(), refuse, lambda what, step: None)
        assert not failure.value.left
        assert shown(pair) == bare
