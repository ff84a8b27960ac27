"""The program that would be attached, judged packet by packet by test runs: verdict, rule and counters as the interpreter states them."""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from compiler import bundle, ir, place
from compiler.interp import names_connection
from compiler.targets import xdp
from runtime import objects, slots
from runtime.backends import bpf

XDP_DROP, XDP_PASS, XDP_REDIRECT = 1, 2, 4
NONE = 0xFFFFFFFF


def split_of(chain: ir.Chain) -> int:
    """Where the early stage ends: the first rule that asks the connection."""
    return next((i for i, rule in enumerate(chain.rules) if names_connection(rule.when)), len(chain.rules))


def placed_of(program: ir.Program, steer: tuple[place.SteerPlacement, ...] = ()) -> place.Placed:
    """XDP for what arrives, conntrack for the stateful rest; `steer` belongs to the first nic."""
    nics = []
    for index, nic in enumerate(program.nics):
        chains = [
            place.ChainPlacement(c, "xdp", split_of(c), "conntrack" if split_of(c) < len(c.rules) else "")
            for c in program.chains
            if c.nic == nic.name and c.direction == "in"
        ]
        nics.append(place.NicPlacement(nic, index, tuple(chains), () if index else steer, ()))
    return place.Placed(program, tuple(nics), (), (), ())


def bundle_of(placed: place.Placed, parts: xdp.XdpParts | None = None) -> bundle.Bundle:
    """The XDP part of a compilation as a bundle."""
    made = parts or xdp.lower(placed)
    nics = tuple(bundle.Nic(n.nic.name, n.nic.device, n.index, n.nic.xdp) for n in placed.nics)
    return bundle.Bundle(
        policy="test", policy_sha256="", netc="0", nics=nics, maps=made.maps, programs=made.programs, counters=made.counters,
        nft=(), trees=(), settings=(), placements=(), expects=(), sets=made.sets,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Seen:
    """What XDP did with one packet: pass, drop, handed-on or redirect; the counters' names."""

    action: int
    rule: str
    steer: str
    data: bytes


class Rig:
    """One nic's XDP program with maps of its own and a clock that the test sets."""

    def __init__(self, made: bundle.Bundle, nic: str = "wan") -> None:
        self.bundle = made
        self.objects = objects.load_fresh(made)
        self.code = next(c for c in made.programs if c.nic == nic and c.hook == "xdp")
        self.names = {c.index: c.name for c in slots.counters_of(made, self.code.name)}
        self.slots = slots.of_nic(made, nic, slots.assign([made], {}))
        self.program = self.objects.programs[self.code.name]
        self.cpu = min(os.sched_getaffinity(0))
        self.clock = self._array("clock", 8)
        self.scratch = self._array("scratch", bundle.CPU_MAX * bundle.SCRATCH_SIZE)

    def _fd(self, role: str) -> int:
        return next(self.objects.maps[m.id] for m in self.bundle.maps if m.role == role and m.id in self.objects.maps and (
            m.id in self.code.maps))  # fmt: skip

    def _array(self, role: str, size: int) -> mmap.mmap | None:
        try:
            return bpf.map_array(self._fd(role), size)
        except StopIteration:  # the program has no use for it
            return None

    def judge(self, frame: bytes, now: int) -> Seen:
        """The caller stays on one CPU: `pinned`."""
        if self.clock:
            self.clock[:8] = struct.pack("=Q", now)
        run = bpf.test_run(self.program, frame)
        assert self.scratch
        judged, steered = struct.unpack_from("=II", self.scratch, self.cpu * bundle.SCRATCH_SIZE)
        return Seen(run.retval, self._name(judged), self._name(steered), run.data_out)

    def _name(self, index: int) -> str:
        return "" if index == NONE else self.names.get(index, f"no counter {index}")

    def counters(self) -> dict[str, tuple[int, int]]:
        return objects.read_slots(self._fd("counters"), {name: self.slots[name] for name in self.names.values()})

    def close(self) -> None:
        for memory in (self.clock, self.scratch):
            if memory:
                memory.close()
        self.objects.close()


@contextmanager
def pinned() -> Iterator[None]:
    """Stay on one CPU, so that the scratch to read is known."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@contextmanager
def rig_of(program: ir.Program, steer: tuple[place.SteerPlacement, ...] = (), made: bundle.Bundle | None = None) -> Iterator[Rig]:
    """A rig of a program without files, closed at the end."""
    with pinned():
        rig = Rig(made or bundle_of(placed_of(program, steer)))
        try:
            yield rig
        finally:
            rig.close()
