"""Rules change in place, a thousand times, while another CPU judges packets: how many packets are judged by neither policy, and what a change takes.

The packets meet a rule of the tables, or one beside them, by turns: both pass. A packet that met half a change would meet neither and be dropped by
the default, which counts it. As root: python bench/changes.py [--changes N] [--packets N] [--rules FILTER_SET]
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path

from compiler import change, change_index, frames, import_classbench, pipeline, profile
from compiler.bundle import Bundle
from compiler.frontend import parse_packet
from compiler.source import Sources
from compiler.tables.changes import Delta
from runtime import changed_rules, objects, slots
from runtime.backends import bpf

SETS = Path(__file__).parents[2] / "shared" / "data" / "classbench"
BATCH = 100_000


def policies(rules: Path, folder: Path) -> tuple[Bundle, Delta]:
    """A policy with a rule in front of a filter set, and the change that puts another one in its place."""
    path = folder / "policy.netc"
    text = import_classbench.policy(import_classbench.read(rules, {7: 6, 8: 17}), rules.name)
    first = next(line for line in text.split("\n") if line.lstrip().startswith("pass") and " as r" in line)
    path.write_text(text.replace(first, f"  pass udp dst 10.99.0.0/16 dport 53 as one\n{first}", 1))
    sources = Sources()
    made = pipeline.compile_policy(path, profile.default(), sources)
    tops = change_index.statements(made.statements, str(path), sources)
    digest = change_index.profile_digest(None)
    index = change_index.make(path, sources, tops, made.program, digest, made.changeable)
    assert index is not None
    path.write_text(path.read_text().replace("as one\n", "as two\n"))
    return made.bundle, change.delta(index, "0" * 64, path, digest)


def judge(program: int, frame: bytes, packets: int) -> None:
    """Until so many packets were judged."""
    for _ in range(packets // BATCH):
        bpf.test_run(program, frame, repeat=BATCH)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--packets", type=int, default=10_000_000)
    parser.add_argument("--rules", type=Path, default=SETS / "acl1_10k.gz")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle, delta = policies(options.rules, Path(folder))
    with objects.load_fresh(bundle) as loaded:
        report(bundle, delta, loaded, options)


def report(bundle: Bundle, delta: Delta, loaded: objects.Objects, options: argparse.Namespace) -> None:
    """Change and judge beside each other, then add up."""
    item = next(item for item in bundle.maps if item.role == "changes")
    fd = loaded.maps[item.id]
    nic = bundle.nics[0].name
    known = slots.of_nic(bundle, nic, slots.assign([bundle], {}))
    last = max(known.values())
    program = loaded.programs[delta.program]
    child = os.fork()
    if child == 0:
        judge(program, frames.build(parse_packet("udp 192.0.2.9:4000 -> 10.99.1.1:53")), options.packets)
        os._exit(0)
    took = []
    for number in range(options.changes):
        half = delta.half if number % 2 == 0 else changed_rules.wanted(item)
        begun = time.perf_counter()
        changed_rules.publish(fd, item.value_size, half, {0: last + 1})
        took.append(time.perf_counter() - begun)
    during = time.perf_counter()
    os.waitpid(child, 0)
    counters = next(loaded.maps[m.id] for m in bundle.maps if m.role == "counters")
    names = {"one": known[f"{delta.chain}.one"], "two": last + 1, "default": known[f"{delta.chain}.default"], "seen": known[f"{delta.chain}.seen"]}
    read = {name: packets for name, (packets, _) in objects.read_slots(counters, names).items()}
    neither = read["seen"] - read["one"] - read["two"]
    print(f"{options.rules.name}: {options.changes:,} changes, {read['seen']:,} packets: {read['one']:,} by the one, {read['two']:,} by the other, {neither:,} by neither")
    print(f"a change with its two waits for the packets in flight: median {1000 * statistics.median(took):.2f} ms, longest {1000 * max(took):.2f} ms; "
          f"the last one {time.perf_counter() - during:.1f} s before the last packet")  # fmt: skip
    raise SystemExit(neither != 0)


if __name__ == "__main__":
    main()
