"""Sets that change under load: how many packets were judged by neither the old nor the new members; not a test.

    python bench/changes_sets.py [--changes 1000] [--packets 10000000]      # a dynamic set, filled and emptied in its map
    python bench/changes_sets.py --fixed [--changes 50]                     # a fixed set: each change is `netc set replace`

Root. A lab of its own; frames really travel, sent on one CPU while the set is changed on another. Its members are A or B, a hundred addresses
each, in turn. Packets go from A to B: one is judged by the whole of either list when its source alone or its destination alone is a member.
Half of a change would let it through (`default`) or find both (`both`).
"""

from __future__ import annotations

import argparse
import ipaddress
import json
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from bench import under_load
from bench.under_load import Change
from compiler import ir
from runtime import set_change
from runtime.lab.lab import Lab
from runtime.set_words import key
from runtime.state import Store

A, B = ([str(ipaddress.ip_address(base) + n) for n in range(100)] for base in ("203.0.113.0", "198.18.0.0"))
POLICY = """\
nic wan {{ device wan0; xdp native }}
set s {set}
filter wan in {{
  drop src in s dst in s as both
  drop src in s as source
  drop dst in s as target
  default drop
}}
"""


class Result(NamedTuple):
    """changes in so many seconds; packets by the counter that they met."""

    changes: int
    seconds: float
    packets: dict[str, int]

    @property
    def neither(self) -> int:
        return self.packets["both"] + self.packets["default"]


def measure(changes: int, packets: int, fixed: bool) -> Result:
    """At least so many of each. Raises what netc and the generator raise."""
    with under_load.lab() as lab, tempfile.TemporaryDirectory() as folder:
        change = _prepare(lab, Path(folder), fixed)
        done = under_load.run(lab, [ir.PacketSpec("udp", a, b, 40000, 53) for a, b in zip(A, B, strict=True)], change, changes, packets)
        return Result(done.changes, done.seconds, _counted(lab, done.sent))


def _prepare(lab: Lab, folder: Path, fixed: bool) -> Change:
    """Apply the policy with A in its set; gives what makes change n: to B, to A, to B, …"""
    lists = [folder / "a", folder / "b"]
    for path, members in zip(lists, (A, B), strict=True):
        path.write_text("\n".join(members) + "\n")
    policy = folder / "p.netc"
    policy.write_text(POLICY.format(set='= file "a"' if fixed else ": address size 1k"))
    under_load.netc(lab, "apply", str(policy))
    if fixed:
        return lambda number: under_load.netc(lab, "set", "replace", "s", "--file", str(lists[number % 2])) and None
    under_load.netc(lab, "set", "add", "s", "--file", str(lists[0]))
    store, context = Store(lab.names.state), lab.context(["wan"])
    current = store.record().current
    assert current is not None
    bundle = store.bundle(current.bundle)
    keys = [[key(word) for word in members] for members in (A, B)]

    def change(number: int) -> None:
        come, leave = keys[number % 2], keys[1 - number % 2]
        set_change.change(context, bundle, bundle.sets[0], set_change.Wish(dict.fromkeys(come, 0), leave))

    return change


def _counted(lab: Lab, sent: int) -> dict[str, int]:
    """Packets by counter. Raises RuntimeError unless they are all that were sent."""
    counters = json.loads(under_load.netc(lab, "counters", "--json"))["counters"]
    found = {item["name"].rpartition(".")[2]: item["packets"] for item in counters}
    packets = {name: found[name] for name in ("source", "target", "both", "default")}
    if sum(packets.values()) != sent:
        raise RuntimeError(f"{sent:,} packets were sent, {sum(packets.values()):,} judged: {packets}")
    return packets


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixed", action="store_true")
    parser.add_argument("--changes", type=int, default=0)
    parser.add_argument("--packets", type=int, default=10_000_000)
    options = parser.parse_args()
    result = measure(options.changes or (50 if options.fixed else 1000), options.packets, options.fixed)
    total = sum(result.packets.values())
    print(f"{result.changes:,} changes of 200 members in {result.seconds:.1f} s, {1e3 * result.seconds / result.changes:.1f} ms each; {total:,} packets")
    print("; ".join(f"{name} {count:,}" for name, count in result.packets.items()))
    print(f"judged by neither the old nor the new members: {result.neither:,}")


if __name__ == "__main__":
    main()
