"""The program that a NIC would run, on this kernel: the very bytecode, in front of the host's program, packet by packet by test runs.

Only where a NIC runs it, and in whose memory its counters are, is another: netdevsim takes such a program and never runs it.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

from compiler import bundle, ir, place
from compiler.interp import Interpreter
from compiler.profile import OffloadMaps
from compiler.targets import offload, xdp
from runtime.backends import bpf
from tests.kernel.xdp import rig

_ACTIONS = {"pass": rig.XDP_PASS, "handed-on": rig.XDP_PASS, "drop": rig.XDP_DROP}
Counted = dict[str, tuple[int, int]]


def placed_of(program: ir.Program, maps: OffloadMaps) -> tuple[place.Placed, offload.OffloadParts]:
    """The program as `xdp offload` with native XDP on the host would have it."""
    offloaded = replace(program, nics=tuple(replace(nic, xdp="offload") for nic in program.nics))
    placed = rig.placed_of(offloaded)
    placed = replace(placed, nics=tuple(replace(nic, host="native") for nic in placed.nics))
    return placed, offload.lower(placed, maps)


class NicHalf:
    """A NIC's program and its counters, in the host's memory."""

    def __init__(self, item: bundle.Offload) -> None:
        self.item = item
        self.map = bpf.create_map("array", 4, item.value_size, item.elements, 0, item.name)
        try:
            self.program = bpf.load_program("xdp", item.code, {bundle.OFFLOAD_MAP: self.map}, item.name)
        except BaseException:
            os.close(self.map)
            raise

    def drops(self, frame: bytes) -> bool:
        return bpf.test_run(self.program, frame).retval == rig.XDP_DROP

    def counters(self) -> Counted:
        """By name, each as often as its place says."""
        values = b"".join(bpf.map_lookup(self.map, struct.pack("=I", at), self.item.value_size) or b"" for at in range(self.item.elements))
        return dict(zip(self.item.counters, struct.iter_unpack("=QQ", values), strict=False))

    def close(self) -> None:
        os.close(self.program)
        os.close(self.map)


@contextmanager
def nic_of(parts: offload.OffloadParts) -> Iterator[NicHalf | None]:
    """None where nothing is on the NIC."""
    if not parts.offloads:
        yield None
        return
    nic = NicHalf(parts.offloads[0])
    try:
        yield nic
    finally:
        nic.close()


def differences(
    program: ir.Program, frames: Sequence[bytes], times: Sequence[int], maps: OffloadMaps, made: offload.OffloadParts | None = None
) -> tuple[list[str], int]:
    """What differs between the interpreter and the NIC in front of the host: verdicts, rules, counters. And how many packets the NIC dropped."""
    placed, parts = placed_of(program, maps)
    chain = program.chains[0]
    reference = Interpreter(program, {chain.name: rig.split_of(chain)})
    found: list[str] = []
    dropped = 0
    with nic_of(made or parts) as nic, rig.rig_of(program, (), rig.bundle_of(placed, xdp.lower(placed))) as host:
        before: Counted = nic.counters() if nic else {}
        for number, (frame, now) in enumerate(zip(frames, times, strict=True)):
            expected = reference.judge(frame, "wan", "in", now)
            if nic and nic.drops(frame):
                dropped += 1
                after = nic.counters()
                action, rule = rig.XDP_DROP, next((name for name in after if after[name] != before[name]), "")
                before = after
            else:
                seen = host.judge(frame, now)
                action, rule = seen.action, seen.rule
            if (action, rule) != (_ACTIONS[expected.verdict], expected.rule):
                found.append(f"packet {number} at {now}: {expected.verdict} by {expected.rule}, NIC and host {action} by {rule}: {frame.hex()}")
        found += _uncounted(chain.name, reference, host.counters(), nic.counters() if nic else {})
    return found, dropped


def _uncounted(chain: str, reference: Interpreter, host: Counted, nic: Counted) -> list[str]:
    """Totals: the host's and the NIC's part of each counter, and all of the NIC's in what was seen."""
    totals = {name: _sum([pair, nic.get(name, (0, 0))]) for name, pair in host.items()}
    totals[f"{chain}.seen"] = _sum([host[f"{chain}.seen"], *nic.values()])
    return [f"counter {name}: {value}, NIC and host {totals.get(name)}" for name, value in reference.counters.items() if tuple(value) != totals.get(name, (0, 0))]


def _sum(pairs: Sequence[tuple[int, int]]) -> tuple[int, int]:
    return sum(packets for packets, _ in pairs), sum(octets for _, octets in pairs)
