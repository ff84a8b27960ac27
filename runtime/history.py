"""What was applied on this host and is kept: the entries of `netc history`, and the one that a rollback goes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec

from runtime import state
from runtime.state import Installed, Record, Store


class HistoryError(Exception):
    """There is no such entry to go back to. The text says which there are."""


@dataclass(frozen=True, slots=True)
class Entry:
    """state: `installed`, `installed before the reboot`, "" for one that can be gone back to, or what is wrong with its file."""

    installed: Installed
    state: str


def entries(store: Store) -> list[Entry]:
    """The newest first. Raises StateError where state.json is damaged; a damaged bundle is told in its entry."""
    record = store.record()
    found = [Entry(entry, _damage(store, entry)) for entry in reversed(record.history)]
    if record.current is None:
        return found
    here = "installed" if state.installed_here(record) else "installed before the reboot"
    return [Entry(record.current, _damage(store, record.current) or here), *found]


def as_json(entry: Entry) -> dict[str, Any]:
    """One entry as `netc history --json` has it."""
    return {"number": entry.installed.number, **msgspec.to_builtins(entry.installed), "state": entry.state}


def wanted(record: Record, number: int | None) -> Installed:
    """The entry that a rollback goes to: `number`, else the newest that is another bundle or binding than what is installed. Raises HistoryError."""
    current = state.installed_here(record)
    if number is None:
        found = next((e for e in reversed(record.history) if not _is_same(e, current)), None)
        if found is None and current is None:
            found = record.current  # a reboot took it off
        if found is None:
            raise HistoryError("there is nothing to roll back to: no other bundle was installed before")
        return found
    kept = [*record.history, *([record.current] if record.current else [])]
    chosen = next((entry for entry in kept if entry.number == number), None)
    if chosen is None:
        there = ", ".join(str(entry.number) for entry in kept) or "nothing"
        why = f"the last {state.HISTORY} before the installed one are kept" if 0 < number <= record.generation else "there never was one"
        raise HistoryError(f"number {number} is not in the history: {why}\n  = help: there is: {there} (netc history)")
    return chosen


def _is_same(entry: Installed, current: Installed | None) -> bool:
    return current is not None and (entry.bundle, entry.bindings) == (current.bundle, current.bindings)


def _damage(store: Store, entry: Installed) -> str:
    """What is wrong with the entry's bundle file, in short; "" where it can be read."""
    try:
        store.bundle(entry.bundle)
    except state.StateError as error:
        return str(error).partition("\n")[0]
    return ""
