"""What a test has changed and must be undone, last first. The commands are kept by the machines' agents; here is which are a test's own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hwtests.rack.machine import Machine


class Undone:
    """The undo numbers that one test registered on one machine."""

    def __init__(self) -> None:
        self._first: int | None = None
        self._machine: Machine | None = None

    def note(self, machine: Machine, number: int) -> None:
        """A change of this test has its undo under this number."""
        if self._first is None:
            self._first, self._machine = number, machine

    def unwind(self) -> list[str]:
        """Undo all of it. What failed, in words: each of them fails the test."""
        if self._first is None or self._machine is None:
            return []
        done = self._machine.unwind(self._first)
        self._first = None
        return [_words(self._machine.name, entry) for entry in done if entry["code"] != 0]


def _words(machine: str, entry: dict[str, Any]) -> str:
    return f"{machine}: undo `{' '.join(entry['argv'])}` failed (status {entry['code']}): {str(entry['err']).strip()}"
