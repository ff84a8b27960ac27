"""What `netc boot` closed when it could put no policy in force is opened by the next change that succeeds, once that is committed."""

from __future__ import annotations

from dataclasses import dataclass

from runtime import closed_host
from runtime.steps import Step


def steps() -> list[Step]:
    """One step where the table is there. Raises StepError."""
    return [_Open()] if closed_host.is_closed() else []


@dataclass(frozen=True, slots=True)
class _Open:
    phase: str = "clean"
    text: str = "nft: open what netc boot closed"

    def do(self) -> None:
        closed_host.open_again()

    def undo(self) -> None:
        """Cleaning is never undone."""

    def check(self) -> None:
        """A clean step is not part of what has to hold."""
