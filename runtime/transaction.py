"""Runs an apply's steps in order; what fails is undone in reverse, so that the device is as it was before.

    stage, flip     each: journal `started`, then do
    check           every step reads back from the kernel that its change is there
    commit          the caller writes the state: from here on the new generation is what is installed
    clean           what is no longer needed goes; a refusal here is reported, never undone

What has to be confirmed stops behind `check`: the caller writes the deadline instead of the state, and the journal stays (runtime.trial).

Invariants: a step's undo runs only if its do ran; no step's do runs after one failed; an undo that fails does not stop the
others. SIGINT, SIGTERM and SIGHUP count as a failure of the step that they meet, at its end
(an SSH session that dies must not leave half an apply).
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Protocol

from runtime.state import StateError
from runtime.steps import Step, StepError


class Log(Protocol):
    """What a transaction needs of the journal. close: nothing is left to do. leave: it stays."""

    def started(self, phase: str, text: str) -> None: ...

    def leave(self) -> None: ...

    def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Left:
    """A step whose change could not be taken back, or was not cleaned up, and the words of the refusal."""

    text: str
    words: str


class TransactionFailed(Exception):
    """The apply did not happen. `cause` is why; `undone` steps were taken back; `left` could not be and are still there."""

    def __init__(self, step: str, cause: BaseException, undone: Sequence[str], left: Sequence[Left]) -> None:
        super().__init__(f"{step}: {cause}")
        self.step, self.cause, self.undone, self.left = step, cause, tuple(undone), tuple(left)


class Interrupted(Exception):
    """A signal asked this process to end."""


def run(steps: Sequence[Step], log: Log, commit: Callable[[], None], report: Callable[[str, Step], None], trial: bool = False) -> list[Left]:
    """Do all of it or nothing. `report(what, step)`: what is do, check, undo or clean. Gives what was not cleaned up.

    trial: nothing is cleaned, and the journal stays. Raises TransactionFailed.
    """
    changes = [step for step in steps if step.phase != "clean"]
    begun: list[Step] = []
    at = "start"
    with _signals_noted() as raise_if_asked:
        try:
            for step in changes:
                at = step.text
                report("do", step)
                _do(step, log, begun)
                raise_if_asked()
            for step in changes:
                at = step.text
                report("check", step)
                step.check()
                raise_if_asked()
            at = "writing the state"
            commit()
        except BaseException as cause:
            with _signals_wait():
                undone, left = undo(begun, report)
            raise TransactionFailed(at, cause, undone, left) from cause
        if trial:
            log.leave()
            return []
        not_cleaned = clean(steps, report)  # an end that is asked for now comes too late: all is done
        not_cleaned += closed(log, bool(not_cleaned))
    return not_cleaned


def closed(log: Log, unclean: bool) -> list[Left]:
    """Close the journal; where something is left it stays, so that the watchdog or the next command tries again."""
    try:
        if unclean:
            log.leave()
        else:
            log.close()
    except StateError as error:
        return [Left("end the journal", str(error))]
    return []


def undo(steps: Sequence[Step], report: Callable[[str, Step], None]) -> tuple[list[str], list[Left]]:
    """Take steps back, the last first. Every one is tried."""
    undone: list[str] = []
    left: list[Left] = []
    for step in reversed(steps):
        report("undo", step)
        try:
            step.undo()
            undone.append(step.text)
        except Exception as error:  # noqa: BLE001  whatever it is, the earlier steps still have to be taken back
            left.append(Left(step.text, str(error) or type(error).__name__))
    return undone, left


def clean(steps: Sequence[Step], report: Callable[[str, Step], None]) -> list[Left]:
    """Run the clean steps; a refusal is not a failure of the apply, but it is told."""
    left: list[Left] = []
    for step in steps:
        if step.phase != "clean":
            continue
        report("clean", step)
        try:
            step.do()
        except (StepError, StateError, OSError) as error:
            left.append(Left(step.text, str(error)))
    return left


def _do(step: Step, log: Log, begun: list[Step]) -> None:
    """One step. After a StepError the step did nothing; after anything else it may have done a part and is undone too."""
    log.started(step.phase, step.text)
    begun.append(step)
    try:
        step.do()
    except StepError:
        begun.pop()
        raise


_ENDING = (signal.SIGTERM, signal.SIGHUP)


@contextmanager
def _signals_noted() -> Iterator[Callable[[], None]]:
    """Gives what raises Interrupted when an end was asked for: between steps, where all that was begun is known. An exception out of a
    handler would meet library code at any place, also a finaliser that swallows it."""
    noted: list[int] = []

    def note(number: int, _frame: FrameType | None) -> None:
        noted.append(number)

    def raise_if_asked() -> None:
        if noted:
            raise Interrupted(f"{signal.Signals(noted[0]).name} received")

    with _handlers(note, (*_ENDING, signal.SIGINT)):
        yield raise_if_asked


@contextmanager
def _signals_wait() -> Iterator[None]:
    """An undo is not interrupted by what asks for the end, nor by a second Ctrl-C."""
    with _handlers(signal.SIG_IGN, (*_ENDING, signal.SIGINT)):
        yield


@contextmanager
def _handlers(
    handler: Callable[[int, FrameType | None], None] | signal.Handlers, numbers: Sequence[signal.Signals] = _ENDING
) -> Iterator[None]:
    """Signal handlers for a while; outside the main thread (a lab in a test) there are none to set."""
    before = {}
    try:
        for number in numbers:
            before[number] = signal.signal(number, handler)
    except ValueError:
        pass
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)
