"""What the reference interpreter remembers between packets: limits and sets. Connections are in interp_conntrack.py.

docs/packet-model.md ("Limits", "Dynamic sets", "The hand") is the law; the XDP program keeps the same state in maps. Times are
nanoseconds, ticks are 1/64 ns.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable

from compiler.ir import TICKS_PER_NS, V4_BASE, Limit, Ranges, Set
from compiler.ir import Field as F

HAND_LOOKS = 4  # ring slots a newcomer may look at


class StaticSet:
    """An address or port set that the policy wrote down."""

    def __init__(self, ranges: Ranges) -> None:
        self._first = [first for first, _ in ranges]
        self._last = [last for _, last in ranges]

    def holds(self, value: int, now: int) -> bool:
        """Whether `value` is a member (at any time)."""
        index = bisect_right(self._first, value) - 1
        return index >= 0 and value <= self._last[index]


class _Ring:
    """Keys in slots, in order of insertion, and the hand that goes round over them when all slots are taken."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.keys: list[int] = []
        self.hand = 0

    def place(self, key: int, idle: Callable[[int], bool]) -> tuple[bool, int | None]:
        """Find a slot for `key`. Returns (placed, the key that had to go). `idle` says whether a key may go."""
        if len(self.keys) < self.size:
            self.keys.append(key)
            return True, None
        for _ in range(HAND_LOOKS):
            if idle(self.keys[self.hand]):
                return True, self.replace(key)
            self.hand = (self.hand + 1) % self.size
        return False, None

    def replace(self, key: int) -> int:
        """Put `key` into the slot under the hand, move the hand on, return the key that was there."""
        gone, self.keys[self.hand] = self.keys[self.hand], key
        self.hand = (self.hand + 1) % self.size
        return gone


class DynamicSet:
    """A set that rules add to; every member has an expiry (ns; 0: never). `refuses` says what `never` protects."""

    def __init__(self, definition: Set, refuses: Callable[[int, int], bool]) -> None:
        assert definition.size is not None
        self._definition = definition
        self._refuses = refuses
        self._ring = _Ring(definition.size)
        self._expiry: dict[int, int] = {}

    def holds(self, value: int, now: int) -> bool:
        """Whether `value` is a live member at `now`."""
        expiry = self._expiry.get(value)
        return expiry is not None and (expiry == 0 or expiry > now)

    def add(self, value: int, now: int, timeout: int | None, renew: bool) -> str:
        """Add a member. Returns "", or what there is to say of it: refused for `never` or `full`, or `evicted` another for want of room."""
        if self._refuses(value, now):
            return "never"
        timeout = self._definition.timeout if timeout is None else timeout
        expiry = 0 if timeout is None else now + timeout
        if value in self._expiry:
            if renew or not self.holds(value, now):
                self._expiry[value] = expiry
            return ""
        placed, gone = self._ring.place(value, lambda key: not self.holds(key, now))
        if not placed:
            if self._definition.full != "evict":
                return "full"
            gone = self._ring.replace(value)
        if gone is not None:
            del self._expiry[gone]
        self._expiry[value] = expiry
        return "" if placed else "evicted"


AnySet = StaticSet | DynamicSet


class RateLimit:
    """One `limit` or `over`: a GCRA bucket, or one a source with a shared bucket for those without room."""

    def __init__(self, limit: Limit) -> None:
        self._limit = limit
        self._tolerance = (limit.burst - 1) * limit.interval
        self._shared = 0  # theoretical arrival, ticks
        self._arrival: dict[int, int] = {}
        self._ring = _Ring(limit.size)

    def matches(self, fields: dict[F, int], now: int) -> bool:
        """Ask the limit, taking a token where the packet conforms. False for a packet without the address of `per`."""
        limit, ticks = self._limit, now * TICKS_PER_NS
        if limit.per is None:
            conforms, self._shared = self._test(self._shared, ticks)
            return conforms is not limit.over
        address = fields.get(limit.per)
        if address is None:
            return False
        key = self._key(address)
        arrival = self._find(key, ticks)
        if arrival is None:
            conforms, self._shared = self._test(self._shared, ticks)
        else:
            conforms, self._arrival[key] = self._test(arrival, ticks)
        return conforms is not limit.over

    def _key(self, address: int) -> int:
        if address >= V4_BASE:
            shift = 32 - self._limit.v4_prefix
        else:
            shift = 128 - self._limit.v6_prefix
        return address >> shift << shift

    def _find(self, key: int, ticks: int) -> int | None:
        """The key's theoretical arrival, made anew if there is a slot; None: no room."""
        if key in self._arrival:
            return self._arrival[key]
        placed, gone = self._ring.place(key, lambda other: self._arrival[other] <= ticks)
        if not placed:
            return None
        if gone is not None:
            del self._arrival[gone]
        self._arrival[key] = 0
        return 0

    def _test(self, arrival: int, ticks: int) -> tuple[bool, int]:
        """GCRA: whether a packet at `ticks` conforms, and the next theoretical arrival."""
        base = max(arrival, ticks)
        if base - ticks <= self._tolerance:
            return True, base + self._limit.interval
        return False, arrival
