"""What changing a large set takes, from the command to the kernel; not a test.

    python bench/sets.py [--members 1000000] [--changes 1000] [--runs 20]       # a dynamic set: netc set add|del NAME --file F
    python bench/sets.py --fixed [--members 1000000] [--runs 3]                 # a fixed set of prefixes: netc set add|del NAME PREFIX

Root. Wall clock of the whole process, Python's own start included, in a lab of its own; median, least and most of the runs, and its CPU time. Beside it
`python -c pass`, which is what no command can go below.
"""

from __future__ import annotations

import argparse
import ipaddress
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from runtime.lab import build, topology

NETC = str(Path(sys.executable).with_name("netc"))
POLICY = """\
nic wan {{ device wan0; xdp native }}
set office = {{ 192.0.2.0/24 }}
set large {set}
filter wan in {{
  drop src in large as large
  pass src in office as office
  default pass
}}
"""


class Took(NamedTuple):
    """Seconds. cpu: of the process alone, which is what is left on a machine that does something else beside."""

    wall: float
    cpu: float


def main() -> None:
    options = _options()
    with _lab() as lab, tempfile.TemporaryDirectory() as folder:
        (_fixed if options.fixed else _dynamic)(options, lab, Path(folder))


def _dynamic(options: argparse.Namespace, lab: topology.Names, folder: Path) -> None:
    (folder / "p.netc").write_text(POLICY.format(set=f": address size {options.members + options.changes} never office"))
    _netc(lab, "apply", str(folder / "p.netc"))
    chosen = random.Random(1).sample(range(0x01000000, 0x7F000000), options.members + options.changes)
    words = [str(ipaddress.ip_address(number)) for number in chosen]
    (folder / "all").write_text("\n".join(words[options.changes :]) + "\n")
    (folder / "some").write_text("\n".join(words[: options.changes]) + "\n")
    filled = _netc(lab, "set", "add", "large", "--file", str(folder / "all"))
    print(f"{options.members:,} members put in: {filled.wall:.1f} s")
    for action in ("add", "del"):
        times, python = [], []
        for _ in range(options.runs):
            times.append(_netc(lab, "set", action, "large", "--file", str(folder / "some")))
            _netc(lab, "set", "del" if action == "add" else "add", "large", "--file", str(folder / "some"))
            python.append(_run([sys.executable, "-c", "pass"]))
        print(f"{action} {options.changes:,} of {options.members:,}: {_spread(times)}; python alone {_spread(python)}")


def _fixed(options: argparse.Namespace, lab: topology.Names, folder: Path) -> None:
    chosen = random.Random(1).sample(range(0x01000000 >> 2, 0x7F000000 >> 2), options.members)
    (folder / "large.txt").write_text("".join(f"{ipaddress.ip_address(number << 2)}/31\n" for number in chosen))
    (folder / "p.netc").write_text(POLICY.format(set='= file "large.txt"'))
    print(f"apply of {options.members:,} prefixes: {_netc(lab, 'apply', str(folder / 'p.netc')).wall:.1f} s")
    times = []
    for run in range(options.runs):
        times.append(_netc(lab, "set", ("add", "del")[run % 2], "large", "203.0.113.0/24"))
    size = max(path.stat().st_size for path in (lab.state / "bundles").glob("*.bundle"))
    print(f"one change of it: {_spread(times)}; the bundle's file {size / 1e6:.1f} MB")


def _netc(lab: topology.Names, *words: str) -> Took:
    """A command in the lab's namespace, as on a host: without `--lab`, which has more to import."""
    where = ["--state-dir", str(lab.state), "--bpffs", str(lab.bpffs)]
    return _run(["nsenter", f"--net=/run/netns/{lab.netns(topology.DUT)}", NETC, *words, *where])


def _run(command: Sequence[str]) -> Took:
    """Raises CalledProcessError."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    subprocess.run(command, cwd="/", check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall, after = time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return Took(wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)


def _spread(runs: Sequence[Took]) -> str:
    wall, cpu = [1e3 * run.wall for run in runs], [1e3 * run.cpu for run in runs]
    return f"median {statistics.median(wall):.0f} ms, {min(wall):.0f} to {max(wall):.0f} (CPU {statistics.median(cpu):.0f}, {min(cpu):.0f} to {max(cpu):.0f})"


@contextmanager
def _lab() -> Iterator[topology.Names]:
    name = f"sets-{os.getpid()}"
    names = build.up(name, queues=2)
    try:
        yield names
    finally:
        build.down(name)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fixed", action="store_true")
    parser.add_argument("--members", type=int, default=1_000_000)
    parser.add_argument("--changes", type=int, default=1000)
    parser.add_argument("--runs", type=int, default=0)
    options = parser.parse_args()
    options.runs = options.runs or (3 if options.fixed else 20)
    return options


if __name__ == "__main__":
    main()
