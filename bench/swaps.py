"""Whole policies that take each other's place under load: how many packets were judged by neither of them; not a test.

    python bench/swaps.py [--swaps 1000] [--packets 10000000] [--stages xdp nft tc]

Root. A lab of its own; frames really travel, sent on one CPU while A and B are applied in turn on another, by runtime.apply, from bundles that were
compiled before. What gets through is counted behind netc, by nftables rules of the bench's own.

    both drop     none gets through
    both pass     none is lost, beyond what the same load loses without a swap
    A passes      (B: what B passes) gets through while its policy stands, and not one while the other does

xdp: the rules are judged in XDP. nft: behind a stateful rule, so in connection tracking's stage. tc: what leaves is classified and shaped, by other
classes in A than in B, and both pass it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import under_load
from compiler import bundle as bundles
from compiler import frames, ir, profile
from compiler.pipeline import compile_policy
from compiler.source import Sources
from runtime import apply
from runtime.context import Context
from runtime.lab import netns, topology
from runtime.lab.lab import Lab
from runtime.state import Store

STAGES = ("xdp", "nft", "tc")
CLOSED, OPEN, OF_A, OF_B = PORTS = (9, 1000, 1001, 1002)
_NIC = "nic wan { device wan0; xdp native }\n"
_RULES = "filter wan in {{\n{first}  drop udp dport 9 as closed\n  pass udp dport 1000 as open\n  pass udp dport {own} as own{own}\n  default drop\n}}\n"
_SHAPE = "shape wan out rate 10gbit {{\n  class own {{ match udp dport {own}; min 1gbit; queue pfifo }}\n  class rest {{ default; min 1gbit; queue pfifo }}\n}}\n"
_PROBE = "table inet behind {{\n{counters}  chain in {{\n    type filter hook prerouting priority 400; policy accept;\n{rules}  }}\n}}\n"
_SETTLED = 0.2  # seconds after the last packet until all are counted
_OUT = 256  # packets that leave at once
_LOOK = 0.02  # seconds in which nothing of the other policy may get through


@dataclass(frozen=True, slots=True)
class Result:
    """sent, through: packets by port. wrong: those that got through although the policy that stood drops them."""

    swaps: int
    seconds: float
    sent: dict[int, int]
    through: dict[int, int]
    wrong: int

    def lost(self, port: int) -> int:
        return self.sent[port] - self.through[port]


class Rig:
    """A lab with both bundles, and the counters behind netc."""

    def __init__(self, lab: Lab, stage: str, folder: Path) -> None:
        self.lab, self.stage = lab, stage
        self._data = [self._bundle(folder, own) for own in (OF_A, OF_B)]
        self._store, self._context = Store(lab.names.state), Context(lab.names.state, lab.names.bpffs)
        self._where = lab.names.netns(topology.WAN.name if stage == "tc" else topology.DUT)
        self._tool("-f", "-", given=_probe())
        self.swap(0)

    def _bundle(self, folder: Path, own: int) -> bytes:
        text = _NIC + (_SHAPE.format(own=own) if self.stage == "tc" else _RULES.format(own=own, first="  drop invalid as bad\n" if self.stage == "nft" else ""))
        path = folder / f"{own}.netc"
        path.write_text(text)
        return bundles.encode(compile_policy(path, profile.load(ROOT / "compiler/profiles/veth.yaml"), Sources()).bundle)

    def swap(self, number: int) -> None:
        """A for even numbers, B for odd ones."""
        change = apply.Change("apply", self._data[number % 2], {"wan": topology.WAN.device})
        with self.lab.enter():
            apply.apply(self._store, self._context, change, lambda *_: None)

    def frames(self) -> list[bytes]:
        if self.stage == "tc":
            return [frames.build(ir.PacketSpec("udp", "192.0.2.1", "192.0.2.2", 5353, port), dst_mac=topology.WAN.mac) for port in PORTS]
        return [frames.build(ir.PacketSpec("udp", "192.0.2.2", "192.0.2.1", 5353, port), dst_mac=topology.WAN.mac) for port in PORTS]

    def sender(self) -> under_load.Sender:
        """Frames arrive at the nic; for tc the device under test itself sends them."""
        if self.stage == "tc":
            return lambda frame: self.lab.send_from_dut(frame, _OUT).packets
        return under_load.into(self.lab)

    def through(self) -> dict[int, int]:
        """Packets behind netc by port, since the rig was made."""
        found = json.loads(self._tool("-j", "list", "counters", "table", "inet", "behind"))["nftables"]
        return {int(item["counter"]["name"][1:]): item["counter"]["packets"] for item in found if "counter" in item}

    def _tool(self, *words: str, given: str = "") -> str:
        with netns.enter(self._where):
            return subprocess.run(["nft", *words], input=given, capture_output=True, text=True, check=True).stdout


def _probe() -> str:
    return _PROBE.format(
        counters="".join(f"  counter p{port} {{ }}\n" for port in PORTS), rules="".join(f"    udp dport {port} counter name p{port} drop\n" for port in PORTS)
    )


@contextmanager
def rig(stage: str) -> Iterator[Rig]:
    with under_load.lab() as lab, tempfile.TemporaryDirectory() as folder:
        yield Rig(lab, stage, Path(folder))


def measure(made: Rig, swaps: int, packets: int) -> Result:
    """At least so many of each; without swaps only the load. Raises what netc and the generator raise."""
    before, wrong = made.through(), [0]

    def change(number: int) -> None:
        if not swaps:
            time.sleep(_LOOK)
            return
        made.swap(number)
        wrong[0] += _of_the_other(made, OF_A if number % 2 else OF_B)

    done, seconds, sent = under_load.run_frames(made.frames(), made.sender(), change, swaps, packets)
    time.sleep(_SETTLED)
    after = made.through()
    return Result(done if swaps else 0, seconds, dict(zip(PORTS, sent, strict=True)), {port: after[port] - before[port] for port in PORTS}, wrong[0])


def _of_the_other(made: Rig, port: int) -> int:
    """How many packets get through, once an apply has said that it is done, that only the policy before lets through. tc passes them all."""
    if made.stage == "tc":
        return 0
    before = made.through()[port]
    time.sleep(_LOOK)
    return made.through()[port] - before


def judged_by_neither(result: Result, control: Result, stage: str) -> int:
    """Packets through that both drop, or lost that both pass beyond the share that is lost without swaps, or through against what stands."""
    passed = PORTS if stage == "tc" else (OPEN,)
    lost = sum(max(0, result.lost(port) - control.lost(port) * result.sent[port] // max(1, control.sent[port])) for port in passed)
    return lost + (0 if stage == "tc" else result.through[CLOSED]) + result.wrong


def report(stage: str, result: Result, control: Result) -> str:
    """A few lines for people."""
    names = dict(zip(PORTS, ("both drop", "both pass", "A passes", "B passes"), strict=True))
    flows = "; ".join(f"{names[port]}: {result.through[port]:,} of {result.sent[port]:,}" for port in PORTS)
    lost = sum(control.lost(port) for port in (PORTS if stage == "tc" else (OPEN,)))
    return (
        f"{stage}: {result.swaps:,} swaps in {result.seconds:.0f} s, {sum(result.sent.values()):,} packets; through: {flows}\n"
        f"{stage}: without swaps {lost:,} of {sum(control.sent.values()):,} that pass were lost; judged by neither policy: {judged_by_neither(result, control, stage):,}"
    )


def main(arguments: Sequence[str] | None = None, tell: Callable[[str], None] = print) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--swaps", type=int, default=1000)
    parser.add_argument("--packets", type=int, default=10_000_000)
    parser.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES)
    options = parser.parse_args(arguments)
    neither = 0
    for stage in options.stages:
        with rig(stage) as made:
            result = measure(made, options.swaps, options.packets)
            control = measure(made, 0, sum(result.sent.values()))
            neither += judged_by_neither(result, control, stage)
            tell(report(stage, result, control))
    return int(neither > 0)


if __name__ == "__main__":
    raise SystemExit(main())
