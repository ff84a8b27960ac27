"""Changes by hand while packets are judged on another CPU: never half of one, and hash and ring agree afterwards."""

from __future__ import annotations

import ipaddress
import os
import threading
from collections.abc import Callable

import pytest

from runtime import set_change, sets
from runtime.backends import bpf, membarrier
from runtime.set_change import Wish
from tests.kernel.sets.policy import POLICY, Live, item, whole
from tests.kernel.xdp import small

A, B = (b"\4\0\0\0" + ipaddress.ip_address(text).packed + bytes(12) for text in ("203.0.113.1", "203.0.113.2"))
TWO_CPUS = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")


def beside(work: Callable[[], object], change: Callable[[int], object], times: int) -> None:
    """Run `change(0)`, `change(1)`, … on one CPU while `work` is done again and again on another."""
    cpus = sorted(os.sched_getaffinity(0))[:2]
    stop, failed = threading.Event(), []

    def run() -> None:
        os.sched_setaffinity(0, {cpus[1]})  # of this thread
        try:
            while not stop.is_set():
                work()
        except BaseException as error:  # noqa: BLE001 (whatever it is, the test has to say so)
            failed.append(error)

    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {cpus[0]})
    thread = threading.Thread(target=run)
    thread.start()
    try:
        for number in range(times):
            change(number)
    finally:
        stop.set()
        thread.join()
        os.sched_setaffinity(0, before)
    assert not failed, failed


@TWO_CPUS
def test_no_packet_is_judged_by_half_of_a_change(live: Live) -> None:
    """From A to B: with {A} the source is banned, with {B} the destination. Whoever passes was judged by neither."""
    bundle, context = live.bundle, live.context
    banned, program = item(bundle), live.program(bundle)
    set_change.change(context, bundle, banned, Wish({A: 0}))
    frame = small.udp("203.0.113.1", "203.0.113.2")

    def change(number: int) -> None:
        come, leave = (A, B) if number % 2 else (B, A)
        set_change.change(context, bundle, banned, Wish({come: 0}, [leave]))

    before = live.host.counts()
    beside(lambda: bpf.test_run(program, frame, repeat=50_000), change, 40)
    os.close(program)
    after = live.host.counts()
    moved = {name.rpartition(".")[2]: after[_, name] - before[_, name] for _, name in after}
    assert moved["banned"] > 1000 and moved["to-banned"] > 1000 and moved["default"] == 0
    assert whole(context, bundle, banned)


@TWO_CPUS
@pytest.mark.parametrize("full", ["keep", "evict"])
def test_rules_and_hands_at_the_same_members(live: Live, full: str) -> None:
    """Eight sources for four places with a timeout of nothing: both sides want the same members and the same slots all the time."""
    live.apply(POLICY.replace("full keep", f"full {full}").replace("  drop src in banned as banned\n", "").replace("timeout 10m", "timeout 50us"))
    bundle, context = live.bundle, live.context
    banned, program = item(bundle), live.program(bundle)
    keys = [b"\4\0\0\0" + ipaddress.ip_address(f"203.0.113.{n}").packed + bytes(12) for n in range(8)]
    frames = [small.tcp(f"203.0.113.{n}", "192.0.2.1", 22, "syn") for n in range(8)]

    def change(number: int) -> None:
        some = [keys[(number * 3 + i) % 8] for i in range(3)]
        try:
            set_change.change(context, bundle, banned, Wish({some[0]: 0} if number % 3 else {}, some[1:] + keys[:4] if number % 2 else [some[1]]))
        except set_change.SetError as error:
            assert "places" in str(error)

    beside(lambda: [bpf.test_run(program, frame) for frame in frames], change, 150)
    os.close(program)
    assert whole(context, bundle, banned)
    set_change.change(context, bundle, banned, Wish(leave=[member.key for member in sets.all_members(context, bundle, banned)]))
    set_change.change(context, bundle, banned, Wish(dict.fromkeys(keys[:4], 0)))
    assert {member.key for member in sets.members(context, bundle, banned)} == set(keys[:4])


class Died(BaseException):
    """The command is killed here: nothing is cleaned up."""


@pytest.mark.parametrize("held", [False, True])
def test_a_change_that_died_is_ended_by_the_next(live: Live, held: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before it held: it never was. Killed after: it holds."""
    bundle, context = live.bundle, live.context
    banned = item(bundle)
    set_change.change(context, bundle, banned, Wish({A: 0}))
    run = set_change._Program.run

    def dies(self: set_change._Program, op: int, *rest: object) -> list[int]:
        if op in (set_change.kernel.SETTLE, set_change.kernel.UNDO):
            raise Died
        if not held and op == set_change.kernel.ADD:
            run(self, op, *rest)  # type: ignore[arg-type]
            raise Died
        return run(self, op, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(Died):
        patch.setattr(set_change._Program, "run", dies)
        set_change.change(context, bundle, banned, Wish({B: 0}, [A]))
    wanted = B if held else A
    assert {member.key for member in sets.members(context, bundle, banned)} == {wanted}
    assert not whole(context, bundle, banned)
    set_change.change(context, bundle, banned, Wish())
    assert {member.key for member in sets.members(context, bundle, banned)} == {wanted} and whole(context, bundle, banned)


def test_without_membarrier_the_next_change_settles(live: Live, monkeypatch: pytest.MonkeyPatch) -> None:
    bundle, context = live.bundle, live.context
    banned = item(bundle)
    with monkeypatch.context() as patch:
        patch.setattr(membarrier, "wait", lambda: False)
        set_change.change(context, bundle, banned, Wish({A: 0}))
        assert {member.key for member in sets.members(context, bundle, banned)} == {A}
        with pytest.raises(set_change.SetError, match="membarrier"):
            set_change.change(context, bundle, banned, Wish({B: 0}))
    set_change.change(context, bundle, banned, Wish({B: 0}, [A]))
    assert {member.key for member in sets.members(context, bundle, banned)} == {B} and whole(context, bundle, banned)
