"""Results of a run on the disk, for `netc rack report`; and as KTAP. The format of both is runtime/rack's."""

from __future__ import annotations

import os
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from runtime.rack import ktap
from runtime.rack.results import ATTEMPTED, FILE, Result, Run, attempted_head, encoded, named

__all__ = ["Result", "Results", "named"]


class Results:
    """Writes results.jsonl and results.attempted of a directory, and a KTAP file: each when it is asked for."""

    def __init__(self, directory: Path | None, ktap: Path | None, rack: str, ports: Iterable[str]) -> None:
        """Raises OSError."""
        self._lines: BinaryIO | None = None
        self._attempted: BinaryIO | None = None
        if directory:
            directory.mkdir(parents=True, exist_ok=True)
            self._lines = (directory / FILE).open("wb")
            self._attempted = (directory / ATTEMPTED).open("wb")
            self.attempted(attempted_head(rack, ports))
        self._ktap, self._all = ktap, list[Result]()

    def attempted(self, node: str) -> None:
        """On the disk before the test begins."""
        if self._attempted:
            self._attempted.write(" ".join(node.splitlines()).encode(errors="replace") + b"\n")
            self._attempted.flush()
            os.fsync(self._attempted.fileno())

    def add(self, result: Result) -> None:
        self._all.append(result)
        if self._lines:
            self._lines.write(encoded(result))
            self._lines.flush()

    def close(self) -> None:
        """The KTAP file is whole only now: its plan line has the number of tests."""
        for file in (self._lines, self._attempted):
            if file:
                file.close()
        if self._ktap:
            run = Run("hwtests", datetime.now(UTC), self._all, [], [])
            self._ktap.write_text(ktap.flat(run), encoding="utf-8")
