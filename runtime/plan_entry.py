"""One line of what `netc plan` says would change, in the policy's words."""

from __future__ import annotations

from dataclasses import dataclass

ADDED, CHANGED, REMOVED = "+", "~", "-"


@dataclass(frozen=True, slots=True)
class Entry:
    """backend: settings, xdp, nft, tc, sets or expect. sign: + ~ -. kind: rule, default, order, set, shape, class, program, table, setting, expectation.

    text: what it is afterwards (of what goes: what it was); was: of what changes, what it was, where that can be said. note: how it comes about.
    """

    backend: str
    sign: str
    kind: str
    name: str
    text: str = ""
    was: str = ""
    note: str = ""
    file: str = ""
    line: int = 0

    @property
    def is_carrier(self) -> bool:
        """A program or table that is made anew because of what it carries: listed, and not counted beside it."""
        return self.kind in ("program", "table") and self.sign == CHANGED


def counts(entries: list[Entry]) -> tuple[int, int, int]:
    """How many are added, changed, removed."""
    signs = [entry.sign for entry in entries if not entry.is_carrier]
    return signs.count(ADDED), signs.count(CHANGED), signs.count(REMOVED)
