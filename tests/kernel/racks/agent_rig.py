"""An agent of the racks as a child of the test, spoken to by hand."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

AGENT = Path(__file__).parents[3] / "hwtests/rack/agent.py"


class Spoken:
    """One agent. ask: a request and its answer, one at a time."""

    def __init__(self, *options: str) -> None:
        self.process = subprocess.Popen([sys.executable, str(AGENT), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def ask(self, **request: Any) -> dict[str, Any]:
        self.say(**request)
        assert self.process.stdout
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def say(self, **request: Any) -> None:
        assert self.process.stdin
        self.process.stdin.write(json.dumps({"id": 1, **request}).encode() + b"\n")
        self.process.stdin.flush()


@contextmanager
def spoken(*options: str) -> Iterator[Spoken]:
    made = Spoken(*options)
    try:
        made.ask(ping=1)
        yield made
    finally:
        for stream in (made.process.stdin, made.process.stdout):
            assert stream
            stream.close()
        made.process.wait(30)
        assert made.process.stderr
        made.process.stderr.close()


def until(path: Path, lines: list[str]) -> None:
    """Wait until a file has these lines: somebody else writes it. Raises AssertionError."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if path.exists() and path.read_text().split() == lines:
            return
        time.sleep(0.02)
    raise AssertionError(f"{path.read_text() if path.exists() else 'nothing'}, not {lines}")
