"""`.packets` files: the traffic beside a policy, and the counters that it must meet. The format is documented in docs/lab.md.

    wan 100  tcp 10.1.2.3:40000 -> 192.0.2.1:443 syn      => wan.in.bogon
    wan 9000 udp 203.0.113.21:5353 -> 192.0.2.1:53        => wan.in.dns + wan.in.dns-over
    out 1    udp 192.0.2.1:40000 -> 192.0.2.2:123         => wan.in.related
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

OUT = "out"  # the device under test sends by itself
_LINE = re.compile(r"(?P<source>[A-Za-z0-9_-]+)\s+(?P<count>\d+)\s+(?P<packet>.+?)\s*=>\s*(?P<counters>.+)\Z")
_COUNTER = re.compile(r"[A-Za-z0-9_.><:/-]{1,120}\Z")
MAX_COUNT = 100_000_000


class PacketsError(Exception):
    """A file that is not a packets file. The text names file, line and what is expected."""


@dataclass(frozen=True, slots=True)
class Line:
    """Send `packet` (in words) `count` times into nic `source`; the counters together go up by exactly that, each by some."""

    source: str
    count: int
    packet: str
    counters: tuple[str, ...]
    number: int


def read(path: Path) -> list[Line]:
    """Raises PacketsError, OSError."""
    lines = []
    try:
        content = path.read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        raise PacketsError(
            f"{path}: No such file or directory\n"
            "  = help: write the traffic for the policy there, a line a packet and the counters that it must meet (docs/lab.md): "
            "wan 5 icmp 203.0.113.9 -> 192.0.2.1 => wan.in.ping"
        ) from None
    for number, text in enumerate(content.splitlines(), 1):
        line = text.partition("#")[0].strip()
        if line:
            lines.append(_parse(line, number, path))
    if not lines:
        raise PacketsError(f"{path}: no packets in it")
    return lines


def _parse(text: str, number: int, path: Path) -> Line:
    found = _LINE.match(text)
    if found is None:
        raise PacketsError(f"{path}:{number}: expected NIC COUNT PACKET => COUNTER, as in: wan 5 icmp 203.0.113.9 -> 192.0.2.1 => wan.in.ping")
    counters = tuple(name.strip() for name in found["counters"].split("+"))
    wrong = next((name for name in counters if not _COUNTER.match(name)), None)
    if wrong is not None:
        raise PacketsError(f"{path}:{number}: {wrong!r} is no name of a counter; write it in full, as in wan.in.ping")
    count = int(found["count"])
    if not 1 <= count <= MAX_COUNT:
        raise PacketsError(f"{path}:{number}: 1 to {MAX_COUNT:,} packets a line, not {count:,}")
    return Line(found["source"], count, found["packet"], counters, number)
