"""Makes a ClassBench filter set of many lines out of a smaller one: the same mix of prefixes, ports and protocols over several networks.

    python bench/larger.py acl1_10k.gz --lines 100000 > acl1_100k

Every further copy of a line has the bits of its prefixes flipped by a mask of the copy's own, and where that changes nothing (both prefixes are wide)
its ports moved. The copies of one line stand together, so that what is broad and late in the smaller set is so in the larger one. No
line comes twice. The same input gives the same lines.
"""

from __future__ import annotations

import argparse
import gzip
import sys
from collections.abc import Iterator
from ipaddress import IPv4Address
from itertools import islice
from pathlib import Path
from random import Random


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path)
    parser.add_argument("--lines", type=int, default=100_000)
    options = parser.parse_args()
    text = gzip.decompress(data).decode() if (data := options.file.read_bytes()).startswith(b"\x1f\x8b") else data.decode()
    found = list(islice(enlarged(text.splitlines(), options.lines), options.lines))
    sys.stdout.write("".join(line + "\n" for line in found))
    if len(found) < options.lines:
        sys.exit(f"only {len(found)} different lines came of {options.file}")


def enlarged(lines: list[str], wanted: int) -> Iterator[str]:
    """`lines`, each with its copies behind it; about `wanted` different ones."""
    copies = -(-wanted * 11 // (len(lines) * 10))
    masks = [(0, 0), *((_mask(copy, 1), _mask(copy, 2)) for copy in range(1, copies))]
    written: set[tuple[str, ...]] = set()
    for line in lines:
        columns = line.removeprefix("@").split("\t")
        for copy, (source, target) in enumerate(masks):
            made = (_moved(columns[0], source), _moved(columns[1], target), *columns[2:])
            if made[:5] in written:
                made = (*made[:2], _shifted(columns[2], copy), _shifted(columns[3], copy), *columns[4:])
            if made[:5] not in written:
                written.add(made[:5])
                yield "@" + "\t".join(made)


def _mask(copy: int, side: int) -> int:
    """Leaves the first four bits: what is wide stays where it is."""
    return Random(copy * 2 + side).getrandbits(28)


def _moved(prefix: str, mask: int) -> str:
    address, _, length = prefix.partition("/")
    keep = (1 << 32) - (1 << 32 - int(length))
    return f"{IPv4Address((int(IPv4Address(address)) ^ mask) & keep)}/{length}"


def _shifted(ports: str, copy: int) -> str:
    """A single port or a range that does not reach the ends, `copy` ports further on."""
    first, last = (int(word) for word in ports.split(" : "))
    return ports if first in (0, 1024) or last + copy > 65535 else f"{first + copy} : {last + copy}"


if __name__ == "__main__":
    main()
