"""The types of values: which words are an address, a port, a MAC, a number of a field, and what ranges of ordinals they stand for.

Addresses become ordinals of the one domain of ir.py. Every function raises LiteralError for a word that is not of its type.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from compiler import wellknown
from compiler.findings import LiteralError
from compiler.ir import V4_BASE, Field
from compiler.suggest import closest
from compiler.tables import members

Range = tuple[int, int]

_NUMBER = re.compile(r"[0-9]{1,12}|0[xX][0-9A-Fa-f]{1,8}")
_MAC = re.compile(r"(?:[0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}")


@dataclass(frozen=True, slots=True)
class ValueType:
    """What a field's values are. set_type: the sets it can be tested against (address, port), "" for none."""

    what: str
    field: Field
    parse: Callable[[str], Range]
    set_type: str = ""
    ordered: bool = True


def address(text: str) -> Range:
    """An address, a prefix without host bits, or a range of addresses of one family."""
    if text.count("-") == 1:
        low, high = (_one(part, text) for part in text.split("-"))
        if (low >= V4_BASE) != (high >= V4_BASE):
            raise LiteralError(
                "N033", f"`{text}` begins in one address family and ends in the other", "write two ranges"
            )
        return _ascending(low, high, text)
    base, slash, length = text.partition("/")
    low = _one(base, text)
    return _prefix(low, length, text) if slash else (low, low)


def _one(text: str, whole: str) -> int:
    try:
        return members.ordinal(members.packed(text))
    except ValueError as error:
        raise LiteralError("N033", f"`{whole}` is not an address", str(error)) from None


def _prefix(low: int, length: str, text: str) -> Range:
    width = 32 if low >= V4_BASE else 128
    if not length.isascii() or not length.isdigit() or len(length) > 3 or int(length) > width:
        raise LiteralError("N031", f"`/{length}` is not a prefix length", f"it is a number from 0 to {width}")
    host = (1 << (width - int(length))) - 1
    if low & host:
        right = f"{show_address(low & ~host)}/{int(length)}"
        raise LiteralError("N032", f"`{text}` has bits set behind the prefix",
                           f"the prefix is {right}; the one address is {show_address(low)}")  # fmt: skip
    return low, low | host


def show_address(ordinal: int) -> str:
    """The usual spelling of an address ordinal."""
    return members.written(ordinal)


def mac(text: str) -> Range:
    """An Ethernet address; its first byte is the most significant of the value."""
    if not _MAC.fullmatch(text):
        raise LiteralError("N033", f"`{text}` is not an Ethernet address", "write six bytes: 02:00:00:aa:bb:cc")
    value = int(text.replace(":", ""), 16)
    return value, value


def numbers(what: str, most: int, names: Mapping[str, int] | None = None, least: int = 0) -> Callable[[str], Range]:
    """The parser of a field whose values are numbers from `least` to `most`, some of them with names."""

    def parse(text: str) -> Range:
        if names and text in names:
            return names[text], names[text]
        low, dash, high = text.partition("-")
        if not _NUMBER.fullmatch(low) or (dash and not _NUMBER.fullmatch(high)):
            raise LiteralError("N033", f"`{text}` is not {what}", _number_help(text, what, most, names))
        first, last = int(low, 0 if low[1:2] in "xX" and len(low) > 1 else 10), 0
        last = (int(high, 0) if high[1:2] in ("x", "X") else int(high)) if dash else first
        for value in (first, last):
            if not least <= value <= most:
                raise LiteralError("N031", f"{value} is not {what}", f"the values are {least} to {most}")
        return _ascending(first, last, text)

    return parse


def _number_help(text: str, what: str, most: int, names: Mapping[str, int] | None) -> str:
    if what == "a port":
        meant = closest(text, wellknown.SERVICES) if text not in wellknown.SERVICES else text
        if meant:
            return f"ports are numbers: {meant} is {wellknown.SERVICES[meant]}"
    if names and (near := closest(text, names)):
        return f"did you mean `{near}`?"
    return f"write a number (0 to {most}), a range (8-15)" + (
        " or a name such as " + ", ".join(list(names)[:5]) if names else ""
    )


def _ascending(low: int, high: int, text: str) -> Range:
    if low > high:
        first, last = text.split("-")
        raise LiteralError("N036", f"the range `{text}` runs backwards", f"write {last}-{first}")
    return low, high


PORT = ValueType("a port", Field.SPORT, numbers("a port", 65535), "port")
VLAN_ID = numbers("a VLAN id", 4094, least=1)
ICMP_NUMBER = numbers("an ICMP number", 255)

TYPES = {
    "src": ValueType("an address", Field.SRC, address, "address", ordered=False),
    "dst": ValueType("an address", Field.DST, address, "address", ordered=False),
    "sport": PORT,
    "dport": ValueType("a port", Field.DPORT, PORT.parse, "port"),
    "proto": ValueType("a protocol", Field.PROTO, numbers("a protocol", 255, wellknown.PROTOCOLS), ordered=False),
    "dscp": ValueType("a DSCP", Field.DSCP, numbers("a DSCP", 63, wellknown.DSCPS)),
    "ttl": ValueType("a TTL", Field.TTL, numbers("a TTL", 255)),
    "length": ValueType("a length in bytes", Field.LENGTH, numbers("a length in bytes", 65535 + 40)),
    "ethertype": ValueType(
        "an EtherType", Field.ETHERTYPE, numbers("an EtherType", 65535, wellknown.ETHERTYPES), ordered=False
    ),
    "mac src": ValueType("an Ethernet address", Field.ETH_SRC, mac, ordered=False),
    "mac dst": ValueType("an Ethernet address", Field.ETH_DST, mac, ordered=False),
}


def type_of(text: str) -> str:
    """What kind of set member a word is: address, port, or "" for neither."""
    if ":" in text or "." in text or "/" in text:
        return "address"
    return "port" if text[:1].isdigit() else ""
