"""Numbers with units → integers: bit/s, packets per second, nanoseconds, bytes, counts. The unit belongs to the number.

Rates are decimal (1 kbit = 1000 bit) as tc and ethtool count them; `m` is minutes, `M` is million, `mbps` means two things and is refused.
All functions raise LiteralError (N030 the unit, N031 the value).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction

from compiler.findings import LiteralError
from compiler.tables.durations import DURATIONS

BIT_RATES = {"bit": 1, "kbit": 10**3, "mbit": 10**6, "gbit": 10**9, "tbit": 10**12}
PACKET_RATES = {"pps": 1, "kpps": 10**3, "Mpps": 10**6}
SIZES = {"b": 1, "kb": 10**3, "mb": 10**6, "gb": 10**9, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30}
COUNTS = {"": 1, "k": 10**3, "M": 10**6}

_MAX = 1 << 62
_NUMBER = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([A-Za-z/%]*)")
_FAMILIES = (
    ("a bit rate", BIT_RATES, "1gbit, 20mbit, 512kbit"),
    ("a packet rate", PACKET_RATES, "100pps, 20kpps, 1Mpps"),
    ("a time", DURATIONS, "50us, 5ms, 30s, 10m"),
    ("a size", SIZES, "64kib, 1500b"),
)
_AMBIGUOUS = {
    "mbps": "mbit for megabits a second, `mb` is a size", "kbps": "kbit for kilobits a second", "gbps": "gbit for gigabits a second",
    "Mbps": "mbit for megabits a second", "Gbps": "gbit for gigabits a second", "bps": "bit for bits a second",
}  # fmt: skip


def bit_rate(text: str) -> int:
    """bit/s, at least 1 kbit."""
    rate = _parse(text, "a bit rate", BIT_RATES, "1gbit, 20mbit, 512kbit")
    if rate < 1000:
        raise LiteralError("N031", f"`{text}` is less than a link can be divided into", "the least is 1kbit")
    return int(rate)


def packet_rate(text: str) -> Fraction:
    """Packets a second, above 0."""
    if _unit(text) in BIT_RATES:
        raise LiteralError(
            "N006",
            "a limit in bits a second is not supported yet",
            "limit packets (`limit 20kpps`), or give the traffic a class with a `max` in `shape`",
        )
    return _parse(text, "a packet rate", PACKET_RATES, "100pps, 20kpps, 1Mpps")


def duration(text: str) -> int:
    """Nanoseconds, above 0."""
    return int(_parse(text, "a time", DURATIONS, "50us, 5ms, 30s, 10m"))


def size(text: str) -> int:
    """Bytes; a bare number is bytes."""
    return int(_parse(text, "a size", {"": 1, **SIZES}, "1500, 64kib"))


def count(text: str, what: str, least: int = 1, most: int = _MAX) -> int:
    """A bare number, or one with k (thousand) or M (million)."""
    value = _parse(text, what, COUNTS, "64, 4k, 1M", zero=least <= 0)
    if not least <= value <= most or value.denominator != 1:
        raise LiteralError("N031", f"{what} cannot be {text}", f"it is a whole number from {least} to {most}")
    return int(value)


def _parse(text: str, what: str, units: Mapping[str, int], examples: str, zero: bool = False) -> Fraction:
    match = _NUMBER.fullmatch(text)
    if not match:
        raise LiteralError("N033", f"`{text}` is not {what}", f"write it like this: {examples}")
    number, unit = match.groups()
    if unit not in units:
        raise LiteralError("N030", _wrong_unit(text, unit, what), _right_unit(number, unit, units, what, examples))
    value = Fraction(number) * units[unit]
    if value >= _MAX:
        raise LiteralError("N031", f"`{text}` is larger than {what} can be", f"write it like this: {examples}")
    if value <= 0 and not zero:
        raise LiteralError("N031", f"{what} cannot be 0", f"write it like this: {examples}")
    return value


def _unit(text: str) -> str:
    match = _NUMBER.fullmatch(text)
    return match.group(2) if match else ""


def _wrong_unit(text: str, unit: str, what: str) -> str:
    if not unit:
        return f"`{text}` has no unit, and this is {what}"
    if unit in _AMBIGUOUS:
        return f"`{unit}` is ambiguous: bits or bytes a second"
    for name, units, _ in _FAMILIES:
        if unit in units and name != what:
            return f"`{text}` is {name}, and this has to be {what}"
    return f"`{unit}` is not a unit of {what}"


def _right_unit(number: str, unit: str, units: Mapping[str, int], what: str, examples: str) -> str:
    if unit in _AMBIGUOUS:
        meant = _AMBIGUOUS[unit].split()[0]
        return f"write {_AMBIGUOUS[unit]}" + (
            f": {number}{meant}" if meant in units else f"; {what} is written {examples}"
        )
    for known in units:
        if known and known.lower() == unit.lower():
            return f"write {number}{known}"
    return f"write it like this: {examples}"
