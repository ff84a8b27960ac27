"""How the fixed sets of one bundle differ from those of another: what `netc plan` says of the members that an apply would change."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

from compiler.bundle import Bundle, StaticSet
from compiler.tables import members
from runtime import set_words

_NAMED = 3  # members that are named; of more, only how many


@dataclass(frozen=True, slots=True)
class Difference:
    """loses, gains: prefixes (addresses) or ranges (ports) as words. by_hand: `netc set` changed the set that is installed."""

    name: str
    loses: tuple[str, ...]
    gains: tuple[str, ...]
    by_hand: bool


def differences(old: Bundle | None, new: Bundle) -> list[Difference]:
    """The sets of both whose members differ, in the order of the new one."""
    had = {item.name: item for item in (old.static if old else ())}
    both = [(had[item.name], item) for item in new.static if item.name in had and had[item.name].ranges != item.ranges]
    return [Difference(now.name, _held(before, now), _held(now, before), before.by_hand) for before, now in both]


def line(item: Difference) -> str:
    """A difference in words."""
    parts = [f"{verb} {_listed(words)}" for verb, words in (("loses", item.loses), ("gains", item.gains)) if words]
    return f"{item.name} {' and '.join(parts)}{' (`netc set` changed what is installed)' if item.by_hand else ''}"


def content(item: StaticSet) -> str:
    """What a set holds, in words: its members where they are few."""
    ranges = members.decode(item.ranges)
    if len(ranges) > _NAMED:
        return f"{len(ranges):,} ranges"
    return ", ".join(chain.from_iterable(set_words.of_range(item.type, low, high) for low, high in ranges)) or "no members"


def _held(item: StaticSet, other: StaticSet) -> tuple[str, ...]:
    """What `item` holds and `other` does not."""
    ranges = members.missing(other.ranges if other.type == item.type else members.encode(()), item.ranges)
    return tuple(chain.from_iterable(set_words.of_range(item.type, low, high) for low, high in ranges))


def _listed(words: tuple[str, ...]) -> str:
    return ", ".join(words) if len(words) <= _NAMED else f"{len(words):,} members"
