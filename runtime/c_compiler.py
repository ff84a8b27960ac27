"""The compiler's questions for bytecode, answered from what was kept, else by a second child that sees the C text alone.

The first child reads a policy, which may be anybody's; the second is given text and answers for no other, so its answers can be kept under the
text's hash and serve other policies (docs/decisions/0007). It begins to wake while the first one reads, when there is nothing kept to answer with.
"""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from collections.abc import Callable

from compiler.tables import framing
from runtime.programs import Programs

MODULE = "compiler.targets.c_service"
Start = Callable[[list[str], socket.socket], "subprocess.Popen[bytes]"]


class Ended(Exception):
    """The C compiler gave no answer. status: as Popen.returncode has it; 0: it was the question that was wrong."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


class CCompiler:
    """Answers one compilation's questions until `deadline` (time.monotonic). start: a child of this module's kind, with that end of a link."""

    def __init__(self, start: Start, kept: Programs, deadline: float) -> None:
        self._start, self._kept, self._deadline = start, kept, deadline
        self._child: subprocess.Popen[bytes] | None = None
        self._link: socket.socket | None = None

    def wake(self) -> None:
        """A C compiler will be needed when nothing is kept: let it begin."""
        if not self._kept.any():
            self._begin(["early"])

    def answer(self, link: socket.socket) -> bool:
        """Answer the one question that waits on the link; whether there was one. Raises Ended, TimeoutError."""
        try:
            link.settimeout(self._left())
            question = framing.receive(link)
            if question is None:
                return False
            answer = self._kept_or_made(question)
            framing.send(link, answer)
        except (ValueError, ConnectionError):
            return False  # who asks like this gets no answer
        return True

    def close(self) -> None:
        """End the child, if there is one."""
        if self._link is not None:
            self._link.close()
        if self._child is not None:
            self._child.kill()
            self._child.wait()

    def _kept_or_made(self, question: bytes) -> bytes:
        if (code := self._kept.find(question)) is not None:
            return b"+" + code
        link = self._link or self._begin([])
        link.settimeout(self._left())
        try:
            framing.send(link, question)
            answer, made_by = framing.receive(link), framing.receive(link)
        except (ValueError, ConnectionError):
            answer = None
        if not answer or made_by is None:
            raise Ended(self._ended())
        if answer[:1] == b"+":
            self._kept.keep(question, answer[1:], made_by.decode().split("\n"))
        return answer

    def _begin(self, arguments: list[str]) -> socket.socket:
        self._link, theirs = socket.socketpair()
        with theirs:
            self._child = self._start([MODULE, *arguments], theirs)
        return self._link

    def _ended(self) -> int:
        """Why there is no answer: the child has died, or is made to."""
        assert self._child is not None
        try:
            return self._child.wait(1) or -signal.SIGPIPE
        except subprocess.TimeoutExpired:
            self._child.kill()
            return self._child.wait()

    def _left(self) -> float:
        return max(0.001, self._deadline - time.monotonic())
