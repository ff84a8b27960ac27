"""A limit's rate as nft says it: whole packets a second, minute, hour, day or week.

The kernel counts whole nanoseconds a packet: unit / rate, rounded down (net/netfilter/nft_limit.c, nft_limit_init). A rate of none is refused.
"""

from __future__ import annotations

from compiler import ir

_UNITS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}
_U32 = (1 << 32) - 1
_TOLERANCE = 1000  # a packet's share of time may be off by a thousandth, as whole nanoseconds are at 1 Mpps


def spell(interval: int) -> tuple[int, str] | None:
    """(rate, unit) of a GCRA interval in ticks, in the shortest unit that is exact to the nanosecond, else the closest; None: none is close."""
    wanted = interval / ir.TICKS_PER_NS
    closest: tuple[float, int, str] | None = None
    for unit, seconds in _UNITS.items():
        rate = round(seconds * 10**9 / wanted)
        if not 0 < rate <= _U32:
            continue
        off = abs(seconds * 10**9 // rate - wanted)
        if off <= 1:
            return rate, unit
        if off * _TOLERANCE <= wanted and (closest is None or off < closest[0]):
            closest = (off, rate, unit)
    return closest[1:] if closest else None
