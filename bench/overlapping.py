"""Makes a policy of many prefix sets that overlap, out of one table of prefixes: what 64 sets together cost a packet.

    python bench/overlapping.py bgp-table.txt.gz FOLDER [--sets 64] [--members 30000] [--sides src]

FOLDER/policy.netc has a rule for each set; each set takes prefixes of the table at random, some made longer or shorter by a few bits. With
`--sides src,dst` rules ask for the source and the destination in turn. The same input gives the same files.
"""

from __future__ import annotations

import argparse
import gzip
from ipaddress import ip_network
from pathlib import Path
from random import Random


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--sets", type=int, default=64)
    parser.add_argument("--members", type=int, default=30_000)
    parser.add_argument("--sides", default="src")
    options = parser.parse_args()
    text = gzip.decompress(data).decode() if (data := options.table.read_bytes()).startswith(b"\x1f\x8b") else data.decode()
    known, rng, sides = text.split(), Random(options.sets), options.sides.split(",")
    options.folder.mkdir(parents=True, exist_ok=True)
    lines, rules = ["nic port { device eth0 }"], []
    for number in range(options.sets):
        (options.folder / f"{number}.txt").write_text("".join(f"{_resized(rng, prefix)}\n" for prefix in rng.sample(known, options.members)))
        lines.append(f'set set{number} = file "{number}.txt"')
        rules.append(f"  {'drop' if number % 2 else 'pass'} {sides[number % len(sides)]} in set{number} as s{number}")
    (options.folder / "policy.netc").write_text("\n".join([*lines, "filter port in {", *rules, "  default pass", "}", ""]))


def _resized(rng: Random, prefix: str) -> str:
    """Mostly as it is."""
    network = ip_network(prefix)
    bits = min(max(network.prefixlen + rng.choice((0, 0, 0, 0, -2, -1, 1, 4)), 8), network.max_prefixlen)
    return str(ip_network((network.network_address, bits), strict=False))


if __name__ == "__main__":
    main()
