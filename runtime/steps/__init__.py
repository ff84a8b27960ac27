"""A step of an apply: do, undo and check stand together. `runtime.transaction` runs them in order and undoes them in reverse."""

from __future__ import annotations

from typing import Protocol


class Step(Protocol):
    """One change. Making a step changes nothing; `do` either did all of it or raises StepError and did nothing.

    phase: `stage` (nothing that packets see), `flip` (packets see it), `clean` (what is no longer needed; never undone).
    text: what the plan says, in the policy's words. What a step interrupts, runtime.disruption knows.
    """

    @property
    def phase(self) -> str: ...

    @property
    def text(self) -> str: ...

    def do(self) -> None: ...

    def undo(self) -> None: ...

    def check(self) -> None:
        """Read back from the kernel that the change is there. Raises StepError."""


class StepError(Exception):
    """A refusal: `what` was being set, the kernel's or device's own `words`, and `mend`, what the user can do."""

    def __init__(self, what: str, words: str, mend: str = "") -> None:
        super().__init__(f"{what}: {words}" + (f"\n  = help: {mend}" if mend else ""))
        self.what, self.words, self.mend = what, words, mend


class PartlyDoneError(Exception):
    """A step was refused when it had done a part: it is undone with the others. The text is the refusal's."""
