"""All or nothing: steps that fail at every index, in every phase, on real files."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from runtime import transaction
from runtime.state import StateError
from runtime.steps import Step, StepError
from runtime.transaction import TransactionFailed


class Write:
    """A step that makes a file. `fails`: do, check, undo or bug (an error that no step should raise, after half of the work)."""


    def __init__(self, path: Path, phase: str = "stage", fails: tuple[str, ...] = ()) -> None:
        self.path, self.phase, self.fails, self.text = path, phase, fails, f"make {path.name}"

    def do(self) -> None:
        if "do" in self.fails:
            raise StepError(self.text, "Operation not supported", "use another file")
        self.path.write_text("there")
        if "bug" in self.fails:
            raise OSError(5, "Input/output error")
        if "term" in self.fails:
            os.kill(os.getpid(), signal.SIGTERM)

    def undo(self) -> None:
        if "undo" in self.fails:
            raise StepError(self.text, "Device or resource busy")
        self.path.unlink()

    def check(self) -> None:
        if "check" in self.fails or not self.path.exists():
            raise StepError(self.text, "it is not there")


class Memory:
    """A journal that is read by the test."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str]] = []

    def started(self, phase: str, text: str) -> None:
        self.lines.append((phase, text))

    def close(self) -> None:
        self.lines.append(("", "closed"))

    def leave(self) -> None:
        self.lines.append(("", "left"))


def silent(_what: str, _step: Step) -> None:
    pass


@pytest.mark.parametrize("way", ["do", "check", "bug", "term"])
@pytest.mark.parametrize("index", range(5))
def test_a_failure_at_any_step_leaves_nothing(tmp_path: Path, way: str, index: int) -> None:
    steps = [Write(tmp_path / str(i), "stage" if i < 3 else "flip", (way,) if i == index else ()) for i in range(5)]
    cleaned = Write(tmp_path / "clean", "clean")
    committed: list[bool] = []
    with pytest.raises(TransactionFailed) as failed:
        transaction.run([*steps, cleaned], Memory(), lambda: committed.append(True), silent)
    assert not list(tmp_path.iterdir()) and not committed
    assert failed.value.step == f"make {index}" and not failed.value.left
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_commit_that_fails_takes_everything_back(tmp_path: Path) -> None:
    def commit() -> None:
        raise OSError(28, "No space left on device")

    with pytest.raises(TransactionFailed, match="No space left"):
        transaction.run([Write(tmp_path / "a")], Memory(), commit, silent)
    assert not list(tmp_path.iterdir())


def test_an_undo_that_fails_is_named_and_stops_no_other(tmp_path: Path) -> None:
    steps = [Write(tmp_path / "a"), Write(tmp_path / "b", fails=("undo",)), Write(tmp_path / "c"), Write(tmp_path / "d", fails=("do",))]
    with pytest.raises(TransactionFailed) as failed:
        transaction.run(steps, Memory(), lambda: None, silent)
    assert [path.name for path in tmp_path.iterdir()] == ["b"]
    assert [(left.text, left.words) for left in failed.value.left] == [("make b", "make b: Device or resource busy")]
    assert failed.value.undone == ("make c", "make a")


def test_the_order_is_do_check_commit_clean(tmp_path: Path) -> None:
    seen: list[str] = []
    steps = [Write(tmp_path / "late", "clean"), Write(tmp_path / "a"), Write(tmp_path / "b", "flip")]
    log = Memory()
    left = transaction.run(steps, log, lambda: seen.append("commit"), lambda what, step: seen.append(f"{what} {step.path.name}"))  # type: ignore[attr-defined]
    assert seen == ["do a", "do b", "check a", "check b", "commit", "clean late"] and not left
    assert log.lines == [("stage", "make a"), ("flip", "make b"), ("", "closed")]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_end_that_is_asked_for_behind_the_commit_comes_too_late(tmp_path: Path, number: signal.Signals) -> None:
    """Or the journal would say that something is unfinished."""
    log = Memory()

    def report(what: str, _step: Step) -> None:
        if what == "clean":
            os.kill(os.getpid(), number)

    assert not transaction.run([Write(tmp_path / "a"), Write(tmp_path / "late", "clean")], log, lambda: None, report)
    assert (tmp_path / "late").exists() and log.lines[-1] == ("", "closed")


def test_a_clean_step_that_is_refused_is_told_and_fails_nothing(tmp_path: Path) -> None:
    log = Memory()
    left = transaction.run([Write(tmp_path / "a"), Write(tmp_path / "z", "clean", ("do",))], log, lambda: None, silent)
    assert (tmp_path / "a").exists() and [item.text for item in left] == ["make z"]
    assert log.lines[-1] == ("", "left"), "the journal is gone, and nobody tries again"


def test_a_journal_that_cannot_be_removed_is_told_and_fails_nothing(tmp_path: Path) -> None:
    class Stuck(Memory):
        def close(self) -> None:
            raise StateError("cannot remove it")

    left = transaction.run([Write(tmp_path / "a")], Stuck(), lambda: None, silent)
    assert (tmp_path / "a").exists() and [item.words for item in left] == ["cannot remove it"]
