"""A ClassBench filter set → a policy that people can read: the same rules in the same order, named by their number in the file.

A line of a filter set (Taylor and Turner, "ClassBench: A Packet Classification Benchmark", INFOCOM 2005):

    @176.19.181.33/32  90.145.23.162/32  0 : 65535  1550 : 1550  0x06/0xFF  0x0000/0x0200

source, destination, source ports, destination ports, protocol/mask, and in newer files flags/mask: TCP's flags in the high octet; for
ICMP the type in the high octet and the code in the low one. A value whose mask is 0 says nothing. The rules have no verdicts, so every
rule passes and the default drops. What cannot be said exactly is refused with its line; a rule that no packet can meet (it asks for
ports of a protocol that has none) is written as a comment.
"""

from __future__ import annotations

import gzip
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from compiler.wellknown import PROTOCOLS, TCP_FLAGS

MAX_TEXT = 64 << 20  # bytes, decompressed
_ANY_PORT = (0, 65535)
_WITH_PORTS = (6, 17, 132)
_WORDS = {1: "icmp4", 6: "tcp", 17: "udp", 132: "sctp"}
_NAMES = {number: name for name, number in PROTOCOLS.items() if name not in ("icmp", "tcp", "udp", "sctp")}
_LINE = re.compile(
    r"@(?P<src>[\d.]+)/(?P<src_bits>\d+)\s+(?P<dst>[\d.]+)/(?P<dst_bits>\d+)"
    r"\s+(?P<sport>\d+)\s*:\s*(?P<sport_to>\d+)\s+(?P<dport>\d+)\s*:\s*(?P<dport_to>\d+)"
    r"\s+(?P<proto>0x[0-9a-fA-F]+)/(?P<proto_mask>0x[0-9a-fA-F]+)"
    r"(?:\s+(?P<flags>0x[0-9a-fA-F]+)/(?P<flags_mask>0x[0-9a-fA-F]+))?\s*"
)


class ImportFailed(Exception):
    """A file that is no filter set, or a line of it that cannot be said in the language. The text names the line and the mend."""


@dataclass(frozen=True, slots=True)
class Filter:
    """One line: prefixes as (address, bits), ports as inclusive ranges, proto None for any, flags as (value, mask) of 16 bits."""

    number: int
    src: tuple[int, int]
    dst: tuple[int, int]
    sport: tuple[int, int]
    dport: tuple[int, int]
    proto: int | None
    flags: tuple[int, int]

    @property
    def meets_nothing(self) -> bool:
        """Ports of a protocol that has none: no packet has such a field."""
        return self.proto is not None and self.proto not in _WITH_PORTS and (self.sport, self.dport) != (_ANY_PORT, _ANY_PORT)


def read(path: Path, protocols: Mapping[int, int] | None = None) -> list[Filter]:
    """The filters of a file (.gz too) in order; `protocols` replaces protocol numbers (anonymised sets use made-up ones).

    Raises ImportFailed, OSError.
    """
    changed = protocols or {}
    filters: list[Filter] = []
    for at, line in enumerate(_lines(path), 1):
        if line.strip() and not line.startswith("#"):
            filters.append(_filter(line, len(filters) + 1, f"{path}:{at}", changed))
    if not filters:
        raise ImportFailed(f"{path}: no filters in it; a filter begins with @ and a prefix")
    return filters


def replaced_protocols(words: list[str]) -> dict[int, int]:
    """`7=tcp`, `8=17` → {7: 6, 8: 17}. Raises ImportFailed."""
    replaced = {}
    for word in words:
        old, equals, new = word.partition("=")
        number = PROTOCOLS.get(new, int(new) if new.isdecimal() else -1)
        if not (equals and old.isdecimal() and int(old) <= 0xFF and 0 <= number <= 0xFF):
            raise ImportFailed(f"--protocol {word}: say the file's number and what it stands for, as in 7=tcp")
        replaced[int(old)] = number
    return replaced


def _lines(path: Path) -> list[str]:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    try:
        with gzip.open(path) if packed else path.open("rb") as file:
            data = file.read(MAX_TEXT + 1)
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ImportFailed(f"{path}: it is cut or no gzip file: {error}") from None
    if len(data) > MAX_TEXT:
        raise ImportFailed(f"{path}: more than {MAX_TEXT >> 20} MiB; split it")
    return data.decode("ascii", "replace").splitlines()


def _filter(line: str, number: int, place: str, changed: Mapping[int, int]) -> Filter:
    found = _LINE.fullmatch(line.strip())
    if found is None:
        raise ImportFailed(f"{place}: not a filter of ClassBench: {line.strip()[:80]!r}; expected @prefix prefix ports ports protocol [flags]")
    part = found.groupdict()
    proto, mask = int(part["proto"], 16), int(part["proto_mask"], 16)
    if mask not in (0, 0xFF) or proto > 0xFF:
        raise ImportFailed(f"{place}: the protocol {part['proto']}/{part['proto_mask']} is neither one protocol nor any")
    flags = (int(part["flags"] or "0", 16), int(part["flags_mask"] or "0", 16))
    made = Filter(
        number,
        _prefix(part["src"], part["src_bits"], place),
        _prefix(part["dst"], part["dst_bits"], place),
        _ports(part["sport"], part["sport_to"], place),
        _ports(part["dport"], part["dport_to"], place),
        changed.get(proto, proto) if mask else None,
        (flags[0] & flags[1], flags[1]),
    )
    _check_flags(made, place)
    return made


def _prefix(address: str, bits: str, place: str) -> tuple[int, int]:
    """Host bits are cut off, as the mask says."""
    try:
        value, length = int(IPv4Address(address)), int(bits)
        if length > 32:
            raise ValueError
    except ValueError:
        raise ImportFailed(f"{place}: {address}/{bits} is not an IPv4 prefix") from None
    return value >> (32 - length) << (32 - length), length


def _ports(first: str, last: str, place: str) -> tuple[int, int]:
    low, high = int(first), int(last)
    if low > high or high > 65535:
        raise ImportFailed(f"{place}: {low} : {high} is not a range of ports")
    return low, high


def _check_flags(item: Filter, place: str) -> None:
    _, mask = item.flags
    if not mask:
        return
    said = f"{place}: the flags {item.flags[0]:#06x}/{mask:#06x}"
    if mask > 0xFFFF or item.proto not in (1, 6):
        raise ImportFailed(f"{said} have a meaning for TCP and ICMP only")
    if item.proto == 6 and mask & 0xFF:
        raise ImportFailed(f"{said} ask for bits that are not TCP's flags (the low octet)")
    if item.proto == 1 and (mask >> 8 not in (0, 0xFF) or mask & 0xFF not in (0, 0xFF)):
        raise ImportFailed(f"{said} ask for a part of ICMP's type or code; only whole ones can be said")


def policy(filters: list[Filter], origin: str, nic: str = "port", device: str = "eth0") -> str:
    """The text of a policy: a head that says where it came from, then one line a filter."""
    left_out = sum(item.meets_nothing for item in filters)
    lines = [
        f"# Imported by netc from the ClassBench filter set {_printable(origin)}: {len(filters)} filters, IPv4.",
        "# r1 is the file's first filter. Filter sets have no verdicts: every filter passes, the default drops.",
    ]
    if left_out:
        lines.append(f"# {left_out} of them ask for ports of a protocol that has none; no packet meets them, so they are comments here.")
    lines += [f"nic {nic} {{ device {device} }}", "", f"filter {nic} in {{"]
    width = max(len(condition(item)) for item in filters)
    for item in filters:
        head = "  # pass " if item.meets_nothing else "  pass "
        lines.append(f"{head}{condition(item):<{min(width, 90)}}  as r{item.number}")
    return "\n".join([*lines, "  default drop", "}", ""])


def condition(item: Filter) -> str:
    """What a filter asks for, in the language's words; what it leaves open is left out. Without an address: `ip4`, since a set is IPv4."""
    said_by_flags = item.proto == 1 and item.flags[1]  # `icmp4 type 8`
    words = [_protocol(item.proto)] if item.proto is not None and not said_by_flags else []
    if item.src[1]:
        words.append(f"src {_spelt(item.src)}")
    if item.dst[1]:
        words.append(f"dst {_spelt(item.dst)}")
    if not (item.src[1] or item.dst[1]) and item.proto != 1:
        words.insert(0, "ip4")
    words += [f"{name} {_range(ports)}" for name, ports in (("sport", item.sport), ("dport", item.dport)) if ports != _ANY_PORT]
    return " ".join([*words, *_flags(item)])


def _protocol(number: int) -> str:
    return _WORDS.get(number) or f"proto {_NAMES.get(number, number)}"


def _flags(item: Filter) -> list[str]:
    value, mask = item.flags
    if not mask:
        return []
    if item.proto == 1:
        asked = [f"{name} {value >> shift & 0xFF}" for name, shift in (("type", 8), ("code", 0)) if mask >> shift & 0xFF]
        return ["icmp4", *asked]
    wanted = [name for name, bit in TCP_FLAGS.items() if value >> 8 & bit]
    clear = [name for name, bit in TCP_FLAGS.items() if mask >> 8 & bit and not value >> 8 & bit]
    return [*([f"flags {', '.join(wanted)}"] if wanted else []), *(f"not flags {name}" for name in clear)]


def _spelt(prefix: tuple[int, int]) -> str:
    return f"{IPv4Address(prefix[0])}" + (f"/{prefix[1]}" if prefix[1] < 32 else "")


def _range(ports: tuple[int, int]) -> str:
    return f"{ports[0]}" if ports[0] == ports[1] else f"{ports[0]}-{ports[1]}"


def _printable(text: str) -> str:
    return "".join(letter if letter.isprintable() else "?" for letter in text)
