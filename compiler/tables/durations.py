"""Lengths of time as the language and the commands write them: one table of units for both."""

from __future__ import annotations

import re
from fractions import Fraction

DURATIONS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9, "d": 86400 * 10**9}
MAX = 1 << 62  # ns: what the language takes
_WRITTEN = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,9})?)([a-z]+)")


def nanoseconds(text: str) -> int:
    """`10m` → ns. Raises ValueError for what is no length of time above 0."""
    match = _WRITTEN.fullmatch(text)
    value = Fraction(match[1]) * DURATIONS.get(match[2], 0) if match else Fraction(0)
    if not 1 <= value < MAX:
        raise ValueError(f"`{text}` is not a length of time; write it like this: 30s, 10m, 2h, 1d")
    return int(value)


def written(ns: int) -> str:
    """Rounded to what people read: 9m58s, 3h2m, 12d4h."""
    seconds = -(-ns // 10**9)
    parts = [(seconds // 86400, "d"), (seconds // 3600 % 24, "h"), (seconds // 60 % 60, "m"), (seconds % 60, "s")]
    first = next((i for i, (number, _) in enumerate(parts) if number), 3)
    return "".join(f"{number}{unit}" for number, unit in parts[first : first + 2] if number) or "0s"
