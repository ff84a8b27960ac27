"""Straight code asks less when rules that share what they begin with stand beside each other: `tcp` once, not twice with UDP between.

A rule moves up only over rules that it excludes (compiler.reach.disjoint), so that first match stays as it is for every packet. The other order is taken
when, over sorts of packets that no rule takes by its last tests, fewer conditions are asked.
"""

from __future__ import annotations

from collections.abc import Mapping

from compiler import ir
from compiler.reach.disjoint import extent
from compiler.targets import c_nest
from compiler.targets.c_nest import HELPERS, Listed

_LOOK_BACK = 64  # rules that one is compared with
_HELPER = 40  # conditions that a helper call costs as much as
_SORTS = tuple(
    (weight * (family != ""), frozenset({f"KIND_{family}", f"KIND_{transport}"}), frozenset(f"HAVE_{name}" for name in (*there, "src", "dst", "proto")))
    for family in ("ip4", "ip6")
    for transport, weight, there in (
        ("tcp", 4, ("sport", "dport", "tcp_flags")),
        ("udp", 4, ("sport", "dport")),
        ("icmp4" if family == "ip4" else "icmp6", 1, ("icmp_type", "icmp_code")),
        ("other", 1, ()),
    )
)  # what packets are mostly; a guess that only decides between two right orders


def ordered(listed: Listed[ir.Rule], sets: Mapping[str, ir.Set]) -> tuple[Listed[ir.Rule], str]:
    """The rules in the order in which least is asked, and what was moved in words ("" when nothing was)."""
    extents = {id(item): extent(item.when, sets) for item, _ in listed}
    found: Listed[ir.Rule] = []
    moved: list[str] = []
    for item, parts in listed:
        place = len(found)
        best = _common(found[-1][1], parts) if found else 0
        for at in range(len(found) - 1, max(-1, len(found) - 1 - _LOOK_BACK), -1):
            if (alike := _common(found[at][1], parts)) > best:
                best, place = alike, at + 1
            if not extents[id(item)].excludes(extents[id(found[at][0])]):
                break
        if place < len(found):
            moved.append(f"`{item.name}` behind `{found[place - 1][0].name}`")
        found.insert(place, (item, parts))
    before, after = weight(listed), weight(found)
    if not moved or after >= before:
        return listed, ""
    more = f" and {len(moved) - 4} more" if len(moved) > 4 else ""
    return found, f"{', '.join(moved[:4])}{more}: they exclude what they pass, and {100 * (before - after) // before} % fewer conditions are asked"


def _common(one: list[str], other: list[str]) -> int:
    """How many shared conditions both begin with."""
    count = 0
    for a, b in zip(one, other, strict=False):
        if a != b or not c_nest.shared(a):
            break
        count += 1
    return count


def weight(listed: Listed[ir.Rule]) -> int:
    """How much is asked of packets of every sort together."""
    return sum(share * _asked(listed, kinds | have)[0] for share, kinds, have in _SORTS)


def _asked(listed: Listed[ir.Rule], holds: frozenset[str]) -> tuple[int, bool]:
    """Conditions asked of a packet with these kinds and fields, whose values no rule wants; and whether a rule took it."""
    total = 0
    for run in c_nest.runs(listed):
        if len(run) > 1:
            total += 1
            if not _true(run[0][1][0], holds):
                continue
            inside, taken = _asked([(item, parts[1:]) for item, parts in run], holds)
        else:
            inside, taken = _one(run[0][1], holds)
        total += inside
        if taken:
            return total, True
    return total, False


def _one(parts: list[str], holds: frozenset[str]) -> tuple[int, bool]:
    total = 0
    for part in parts:
        total += _HELPER if any(call in part for call in HELPERS) else 1
        if not _true(part, holds):
            return total, False
    return total, True


def _true(part: str, holds: frozenset[str]) -> bool:
    """Of kinds and presence; other tests count as false."""
    return c_nest.shared(part) and not holds.isdisjoint(part.replace("(", " ").replace(")", " ").split())
