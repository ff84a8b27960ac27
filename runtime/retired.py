"""What rules counted that are no longer in the policy. Without it no stage would balance after an apply that removed a rule: its packets were
seen, and `seen` survives.

The ledger is part of state.json, so that it changes in the same instant as what is installed. A stage's entry says how much the stage had
seen when it was written: a stage that has seen less now has begun anew (a reboot, a table that someone deleted), and its entry is void.

A policy that outgrows its nic's counter map moves to a larger one (bundle.COUNTER_SLOTS), which begins at zero. What was counted in maps that
are gone is `moved`, and is added to whatever is read of a counter.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping

import msgspec


class Entry(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One stage of one chain. counters: name → (packets, bytes) of those that left, totals since they first existed. moved: of any that once was
    there, what it counted in counter maps that are gone. seen: with what moved."""

    seen: int
    counters: dict[str, tuple[int, int]]
    moved: dict[str, tuple[int, int]] = {}


Ledger = dict[str, Entry]  # by `key`
Totals = Mapping[tuple[str, str], tuple[int, int]]  # (stage, counter name) → packets, bytes
KEEPS_SLOTS = ("xdp", "tc", "steer")  # stages whose counters keep their value while no rule uses them


def key(stage: str, chain: str) -> str:
    return f"{stage} {chain}"


def carry(ledger: Ledger, gone: Totals, staying: Iterable[tuple[str, str]], seen: Mapping[tuple[str, str], int]) -> Ledger:
    """The ledger after an apply.

    gone: what the old bundle counted in counters that the new one lacks, `seen` among them where the whole stage goes. staying: (stage, name) of all counters of the new bundle.
    seen: (stage, chain) → packets seen by now, for the stages of the new bundle.
    """
    kept: Ledger = {}
    here = set(staying)
    for stage, chain in {*seen, *((stage, name.rpartition(".")[0]) for stage, name in gone), *(_place(text) for text in ledger)}:
        if (stage, chain) not in seen and stage not in KEEPS_SLOTS:  # nft's counters go: all of theirs is added when the stage comes back
            away = {name: total for (at, name), total in gone.items() if at == stage and name.rpartition(".")[0] == chain}
            if away := {**ledger.get(key(stage, chain), Entry(0, {})).counters, **away}:
                kept[key(stage, chain)] = Entry(0, away)
            continue
        before = ledger.get(key(stage, chain), Entry(0, {}))
        now = seen.get((stage, chain), before.seen)
        counters, moved = (dict(before.counters), before.moved) if now >= before.seen else ({}, {})
        counters |= {name: total for (at, name), total in gone.items() if at == stage and name.rpartition(".")[0] == chain}
        if stage in KEEPS_SLOTS:
            counters = {name: total for name, total in counters.items() if (stage, name) not in here}
        if counters or moved:
            kept[key(stage, chain)] = Entry(now, counters, moved)
    return kept


def moved(ledger: Ledger, stage: str, chain: str, gone: Mapping[str, tuple[int, int]], back: Iterable[str], seen: int) -> Ledger:
    """The ledger after some rules of one stage came or went in place: `gone` with their totals, `back` count on in their slots. seen: by the kernel."""
    before = ledger.get(key(stage, chain), Entry(0, {}, {}))
    seen += before.moved.get(f"{chain}.seen", (0, 0))[0]
    returned = set(back)
    counters = {**(before.counters if seen >= before.seen else {}), **gone}
    counters = {name: total for name, total in counters.items() if name not in returned}
    rest = {place: entry for place, entry in ledger.items() if place != key(stage, chain)}
    return {**rest, key(stage, chain): Entry(seen, counters, before.moved)} if counters or before.moved else rest


def move(ledger: Ledger, leaving: Totals, nics: Collection[str]) -> Ledger:
    """The ledger once the counter maps of these nics are exchanged. leaving: what was counted in the maps that go.

    What counters that are not in the policy had counted goes with them: should one come back, it begins at zero.
    """
    found = {place: msgspec.structs.replace(entry, moved=dict(entry.moved)) for place, entry in ledger.items()}
    for place, entry in found.items():
        stage, chain = _place(place)
        if stage in KEEPS_SLOTS and chain.partition(".")[0] in nics:
            entry.moved.update(entry.counters)
    for (stage, name), total in leaving.items():
        if any(total):
            entry = found.setdefault(key(stage, name.rpartition(".")[0]), Entry(0, {}, {}))
            entry.moved[name] = added(entry.moved.get(name, (0, 0)), total)
    return found


def added(one: tuple[int, int], other: tuple[int, int]) -> tuple[int, int]:
    return one[0] + other[0], one[1] + other[1]


def _place(text: str) -> tuple[str, str]:
    stage, _, chain = text.partition(" ")
    return stage, chain
