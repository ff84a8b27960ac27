"""Rules that change in place under load: how many packets were judged by neither the old nor the new policy; not a test.

    python bench/changes.py [--changes 1000] [--packets 10000000]

Root. A lab of its own; frames really travel, sent on one CPU while rules change on another. By turns the tables' rule `one` is in force, or it is dead
and `two` stands beside the tables. A packet that met half a change would meet neither and be counted by the default.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import under_load
from compiler import ir
from runtime import rules_found
from runtime.lab.lab import Lab
from runtime.state import Store
from runtime.steps import xdp_changes
from runtime.steps.xdp_changes import ChangeStep

FILLER = "\n".join(f"  drop udp src 10.{n // 200}.{n % 200}.0/24 dport 1000-1100 as f{n}" for n in range(2000))
POLICY = "nic wan {{ device wan0; xdp native }}\nfilter wan in {{\n  drop udp dport 53 as {name}\n" + FILLER + "\n  default drop\n}}\n"


class Result(NamedTuple):
    """changes in so many seconds; packets by the counter that they met: one, two, default."""

    changes: int
    seconds: float
    packets: dict[str, int]


def measure(changes: int, packets: int) -> Result:
    """At least so many of each. Raises what netc and the generator raise; RuntimeError where a packet was not counted."""
    with under_load.lab() as lab, tempfile.TemporaryDirectory() as folder:
        change, counted = _prepare(lab, Path(folder) / "p.netc")
        done = under_load.run(lab, [ir.PacketSpec("udp", "192.0.2.9", "192.0.2.1", 40000, 53)], change, changes, packets)
        found = counted()
    if sum(found.values()) != done.sent:
        raise RuntimeError(f"{done.sent:,} packets were sent, counted were {found}")
    return Result(done.changes, done.seconds, found)


def _prepare(lab: Lab, policy: Path) -> tuple[under_load.Change, Callable[[], dict[str, int]]]:
    """Apply both policies once, the second in place; gives what makes change n, and what reads the counters."""
    for name in ("one", "two"):
        policy.write_text(POLICY.format(name=name))
        under_load.netc(lab, "apply", str(policy))
    store, context = Store(lab.names.state), lab.context(["wan"])
    current = store.record().current
    assert current is not None
    delta = store.change(current.bundle)
    assert delta is not None, "the second policy was applied whole"
    none = rules_found.empty(delta)
    ways = [ChangeStep(context, "wan", current.generation, *pair) for pair in ((delta, none), (none, delta))]
    slots = xdp_changes.slots_of(context, "wan", store.slots())[2]
    wanted = {f"wan.in.{name}": slots[f"wan.in.{name}"] for name in ("one", "two", "default")}

    def counted() -> dict[str, int]:
        read = xdp_changes.read_counters(context, "wan", wanted)
        return {name.rpartition(".")[2]: packets for name, (packets, _) in read.items()}

    # Thrice each: a change waits for a burst of packets to end, and by turns every burst could meet the same one.
    return lambda number: ways[number // 3 % 2].do(), counted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--packets", type=int, default=10_000_000)
    options = parser.parse_args()
    result = measure(options.changes, options.packets)
    print(f"{result.changes:,} changes in {result.seconds:.1f} s, {1e3 * result.seconds / result.changes:.1f} ms each with the wait for packets in flight; "
          f"{sum(result.packets.values()):,} packets: {', '.join(f'{name} {count:,}' for name, count in result.packets.items())}")  # fmt: skip
    print(f"judged by neither the old nor the new policy: {result.packets['default']:,}")


if __name__ == "__main__":
    main()
