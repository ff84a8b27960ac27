"""Limits and sets that two CPUs use at once: exact where exactness is promised, never open, never over their size."""

from __future__ import annotations

import os
import struct
import threading
from collections.abc import Callable

import pytest

from compiler import ir
from runtime.backends import bpf
from tests.kernel.xdp import rig, small

F, SECOND = ir.Field, small.SECOND
pytestmark = pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two CPUs")


def on_two_cpus(work: Callable[[int], object]) -> None:
    """Run work(0) and work(1) on a CPU each, started together."""
    cpus = sorted(os.sched_getaffinity(0))[:2]
    ready = threading.Barrier(2)
    failed: list[BaseException] = []

    def run(number: int) -> None:
        try:
            os.sched_setaffinity(0, {cpus[number]})  # of this thread
            ready.wait()
            work(number)
        except BaseException as error:  # noqa: BLE001 (whatever it is, the test has to say so)
            failed.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed, failed


def test_a_bucket_gives_each_token_once() -> None:
    rule = ir.Rule("dns", "pass", small.port(53), ir.Limit("wan.in.dns", 64 * SECOND, 5000))
    kernel = rig.Rig(rig.bundle_of(rig.placed_of(small.program(rule))))
    try:
        kernel.judge(small.udp(dport=54), SECOND)  # sets the clock, which stands still from here on
        on_two_cpus(lambda _: [bpf.test_run(kernel.program, small.udp(), repeat=100) for _ in range(200)])
        counted = kernel.counters()
        assert counted["wan.in.dns"][0] == 5000
        assert counted["wan.in.default"][0] == 40_000 - 5000 + 1
    finally:
        kernel.close()


def test_a_set_never_outgrows_its_size() -> None:
    banned = ir.Set("banned", "address", (), 50, SECOND, (), "evict")
    add = ir.Rule("scan", "drop", ir.Is("tcp"), None, (ir.Add("banned", F.SRC, None),))
    kernel = rig.Rig(rig.bundle_of(rig.placed_of(small.program(add, sets=(banned,)))))
    try:
        kernel.judge(small.udp(), SECOND)
        frames = [small.tcp(f"198.51.{i // 250}.{i % 250 + 1}") for i in range(1000)]
        on_two_cpus(lambda number: [bpf.test_run(kernel.program, frame) for frame in frames[:: 1 - 2 * number]])
        table = next(m for m in kernel.bundle.maps if m.role == "set")
        members = list(bpf.map_items(kernel.objects.maps[table.id], table.key_size, table.value_size))
        assert 40 <= len(members) <= 50  # a slot lost to the other CPU stays empty until the hand comes by
        assert kernel.counters()["wan.in.scan"][0] == 2000
    finally:
        kernel.close()


@pytest.mark.parametrize("full", ["keep", "evict"])
def test_the_ring_has_each_member_once_whatever_two_cpus_do(full: str) -> None:
    """Small, with a timeout of 1 ns, so that both hands are at the same slots all the time."""
    banned = ir.Set("banned", "address", (), 3, 1, (), full)
    add = ir.Rule("scan", "drop", ir.Is("tcp"), None, (ir.Add("banned", F.SRC, None),))
    kernel = rig.Rig(rig.bundle_of(rig.placed_of(small.program(add, sets=(banned,)))))
    try:
        frames = [small.tcp(f"198.51.100.{i + 1}") for i in range(6)]
        on_two_cpus(lambda _: [bpf.test_run(kernel.program, frame) for frame in frames * 1000])
        fds = {m.role: (kernel.objects.maps[m.id], m) for m in kernel.bundle.maps}
        table, ring = fds["set"], fds["ring"]
        content = bpf.map_lookup(ring[0], bytes(4), ring[1].value_size)
        assert content is not None
        assert whole(content, {key: struct.unpack("=3Q", value)[2] for key, value in bpf.map_items(table[0], 20, 24)}, 3)
    finally:
        kernel.close()


def whole(ring: bytes, slots: dict[bytes, int], size: int) -> bool:
    """Every member stands in the slot that it names, and all other slots are free (struct ring of compiler/targets/keyed.h)."""
    count, _, free = struct.unpack_from("=3Q", ring)
    keys = [struct.unpack_from("=Q16s", ring, 24 + 24 * i) for i in range(min(count, size))]
    empty, at = set(), (free & 0xFFFFFFFF) - 1
    while 0 <= at < size and at not in empty:
        empty.add(at)
        at = struct.unpack_from("=I", ring, 24 + 24 * at + 8)[0] - 1
    taken = {struct.pack("=I16s", *key): slot for slot, key in enumerate(keys) if key[0]}
    return taken == slots and empty == {slot for slot, key in enumerate(keys) if not key[0]}
