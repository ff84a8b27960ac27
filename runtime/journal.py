"""The intents of an apply, on disk before they happen: what the next command needs when this one dies half way.

One JSON object a line, each fsync'd before the work that it names: the intent, `{"started": [phase, text]}` for each step, and `{"trial": deadline}`
when all of it is in force and waits to be confirmed. Whether the apply was committed is told by the generation in state.json. The file is removed
when nothing is left to do, so its presence means an unfinished apply (`runtime.recover` ends it). A torn last line was never acted on and is ignored.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec

from runtime.state import StateError, sync_directory


class Intent(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is being done. `new`, `old`: bundle hashes, "" for nothing. `boot`: the kernel's boot id, for its objects die with it.
    in_place: rules change beside their tables, by one store (runtime.rule_change). trial: seconds in which it has to be confirmed, 0.0: it need not be.
    take_over: what another state directory installed may be there; half way through it is whose it was or ours."""

    command: str
    generation: int
    new: str
    old: str
    bindings: dict[str, str]
    old_bindings: dict[str, str]
    boot: str
    in_place: bool = False
    trial: float = 0.0
    take_over: bool = False


class _Started(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    started: tuple[str, str]


class _Trial(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    trial: float


class Unfinished(msgspec.Struct, frozen=True):
    """A journal that was found. `started`: phase and text of each step whose work may have been done, in order.

    deadline: all of it is in force until then (seconds of CLOCK_MONOTONIC); None: it never was.
    """

    intent: Intent
    started: tuple[tuple[str, str], ...]
    deadline: float | None = None


class Journal:
    """The journal of one apply. Raises StateError when the disk refuses."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "journal.jsonl"
        self._file: int | None = None

    def begin(self, intent: Intent) -> None:
        """Start the file. The caller has ended an unfinished one before, under the lock."""
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
            self._append(msgspec.to_builtins(intent))
            sync_directory(self.path.parent)
        except (OSError, StateError) as error:
            with suppress(StateError):  # nothing was done yet
                self.close()
            raise error if isinstance(error, StateError) else StateError(f"cannot write {self.path}: {error.strerror}") from None

    def started(self, phase: str, text: str) -> None:
        """On disk before the step does anything."""
        self._append({"started": [phase, text]})

    def on_trial(self, deadline: float) -> None:
        """All steps are done and checked; what is in force ends at the deadline unless it is confirmed."""
        self._append({"trial": deadline})

    def end_trial(self) -> None:
        """It is being taken back before its deadline: over from here on, also for whoever goes on with that after a crash."""
        try:
            self._file = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError as error:
            raise StateError(f"cannot write {self.path}: {error.strerror}") from None
        self.on_trial(0.0)

    def leave(self) -> None:
        """Close the file and let it stand. Every line of it is on disk."""
        if self._file is not None:
            handle, self._file = self._file, None
            with suppress(OSError):
                os.close(handle)

    def close(self) -> None:
        """Nothing is left to do: the file goes. A power failure that brings it back has taken what it is about along."""
        self.leave()
        try:
            self.path.unlink(missing_ok=True)
        except OSError as error:
            raise StateError(f"cannot remove {self.path}: {error.strerror}") from None
        with suppress(OSError):
            sync_directory(self.path.parent)

    def _append(self, line: object) -> None:
        assert self._file is not None, "begin() comes first"
        data = json.dumps(line).encode() + b"\n"
        try:
            while data:
                data = data[os.write(self._file, data) :]
            os.fsync(self._file)
        except OSError as error:
            raise StateError(f"cannot write {self.path}: {error.strerror}") from None

    def unfinished(self) -> Unfinished | None:
        """What an earlier process left behind, or None. Raises StateError for a file that is no journal."""
        try:
            lines = _whole_lines(self.path.read_bytes())
        except FileNotFoundError:
            return None
        if not lines:
            return None  # died before the intent was on disk: nothing was done
        try:
            intent = msgspec.convert(lines[0], Intent)
            started = msgspec.convert([line for line in lines[1:] if "trial" not in line], tuple[_Started, ...])
            trials = msgspec.convert([line for line in lines[1:] if "trial" in line], tuple[_Trial, ...])
        except msgspec.ValidationError as error:
            raise StateError(f"{self.path} is damaged: {error}\n  = help: move the file away, then look at `netc status` and apply again") from None
        return Unfinished(intent, tuple(line.started for line in started), trials[-1].trial if trials else None)


def _whole_lines(data: bytes) -> list[dict[str, Any]]:
    """The lines up to the first that is torn; whatever comes after a torn line was never acted on."""
    lines: list[dict[str, Any]] = []
    for text in data.split(b"\n")[:-1]:
        try:
            line = json.loads(text)
        except (ValueError, RecursionError):
            break
        if not isinstance(line, dict):
            break
        lines.append(line)
    return lines
