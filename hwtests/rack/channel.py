"""The controller's end of an agent's stream: requests in, answers out, from any thread; and a ping so that the dead man's timer rests."""

from __future__ import annotations

import itertools
import json
import queue
import threading
from collections.abc import Callable
from typing import Any, BinaryIO

from hwtests.rack.errors import RackError

PING_SECONDS = 10.0  # well below agent.DEADMAN
_SLACK = 15.0  # seconds an answer may take beyond the deadline that the agent itself keeps; a loaded emulated machine is slow


class Channel:
    """One agent. `reader` and `writer` are its stdout and stdin; `close` ends the stream, so that the agent undoes and ends."""

    def __init__(self, machine: str, reader: BinaryIO, writer: BinaryIO, end: Callable[[], None] = lambda: None) -> None:
        """end: what else has to be done once the stream is closed (wait for a process, close a connection)."""
        self.machine = machine
        self._reader, self._writer, self._end = reader, writer, end
        self._ids = itertools.count(1)
        self._waiting: dict[int, queue.Queue[dict[str, Any] | None]] = {}
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._gone = False
        threading.Thread(target=self._listen, daemon=True).start()
        threading.Thread(target=self._keep_alive, daemon=True).start()

    def ask(self, verb: str, value: Any, timeout: float = 30.0, **more: Any) -> dict[str, Any]:
        """One request and its answer. Raises RackError: the agent's refusal, no answer in time, or the stream's end."""
        number = next(self._ids)
        answer: queue.Queue[dict[str, Any] | None] = queue.Queue(1)
        line = json.dumps({"id": number, verb: value, "timeout": timeout, **more}).encode() + b"\n"
        with self._lock:
            if self._gone:
                raise RackError(f"{self.machine}: its agent is gone")
            self._waiting[number] = answer
            try:
                self._writer.write(line)
                self._writer.flush()
            except (OSError, ValueError) as error:
                raise RackError(f"{self.machine}: its agent cannot be reached any more: {error}") from None
        try:
            got = answer.get(timeout=timeout + _SLACK)
        except queue.Empty:
            raise RackError(f"{self.machine}: no answer to {verb} {value!r} within {timeout + _SLACK:g} s; is the machine alive?") from None
        finally:
            self._waiting.pop(number, None)
        if got is None:
            raise RackError(f"{self.machine}: its agent ended during {verb} {value!r}")
        if "error" in got:
            raise RackError(f"{self.machine}: {verb} {_short(value)}: {got['error']}")
        return got

    def close(self) -> None:
        """End the stream; the agent gives back what is still to be undone, and ends."""
        if not self._closed.is_set():
            self._closed.set()
            for stream in (self._writer, ):
                try:
                    stream.close()
                except OSError:
                    pass
            self._end()

    def _listen(self) -> None:
        try:
            for line in self._reader:
                answer = json.loads(line)
                waiting = self._waiting.get(answer.get("id"))
                if waiting is not None:
                    waiting.put(answer)
        except (OSError, ValueError):  # the stream is closed, or no longer ours
            pass
        with self._lock:
            self._gone = True
            for waiting in self._waiting.values():
                waiting.put(None)

    def _keep_alive(self) -> None:
        while not self._closed.wait(PING_SECONDS):
            try:
                self.ask("ping", 1)
            except RackError:
                return


def _short(value: Any) -> str:
    text = " ".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) < 200 else text[:200] + "…"
