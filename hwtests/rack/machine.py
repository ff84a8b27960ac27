"""A machine of a rack, as tests use it: commands, files, netc, and what undoes each change. All of it goes through the machine's agent."""

from __future__ import annotations

import base64
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from hwtests.rack.channel import Channel
from hwtests.rack.errors import CommandFailed, RackError
from hwtests.rack.undo import Undone

COMMAND_SECONDS = 120.0  # an emulated machine compiles nothing, but it starts Python slowly


@dataclass(frozen=True, slots=True)
class Done:
    """code: exit status; out, err: what the command wrote."""

    code: int
    out: str
    err: str


@dataclass(frozen=True)
class Machine:
    """netns: the network namespace its commands run in ("": the machine's own); netc: its `netc`; work: a directory of ours on it;
    bpffs: a directory in a bpf file system of ours; warm: the socket of a netc that is imported already (hwtests/rack/warm.py)."""

    name: str
    channel: Channel
    netns: str = ""
    netc_path: str = "netc"
    work: str = "/run/netc-hwtests"
    warm: str = ""
    undone: Undone = field(default_factory=Undone)

    @property
    def state(self) -> str:
        return f"{self.work}/state"

    @property
    def bpffs(self) -> str:
        return f"{self.work}/bpf/netc"

    def ask(self, verb: str, value: Any, timeout: float = 30.0, **more: Any) -> dict[str, Any]:
        """One request to the agent, in this machine's namespace. Raises RackError."""
        return self.channel.ask(verb, value, timeout, netns=self.netns or None, **more)

    def run(self, *argv: str, status: int | None = 0, stdin: str | None = None, timeout: float = COMMAND_SECONDS) -> Done:
        """Run a command and demand its exit status (None: any). Raises CommandFailed with what it said, RackError."""
        answer = self.ask("run", list(argv), timeout, stdin=stdin, env=_PLAIN)
        return self._demanded(argv, Done(answer["code"], answer["out"], answer["err"]), status)

    def _demanded(self, argv: tuple[str, ...], done: Done, status: int | None) -> Done:
        if status is not None and done.code != status:
            said = (done.err or done.out).strip()[-3000:]
            raise CommandFailed(f"{self.name}: {' '.join(argv)}: exit status {done.code}, not {status}: {said}")
        return done

    def json(self, *argv: str, status: int | None = 0, timeout: float = COMMAND_SECONDS) -> Any:
        """What a command printed, as JSON. Raises CommandFailed, RackError."""
        out = self.run(*argv, status=status, timeout=timeout).out
        try:
            return json.loads(out or "null")
        except ValueError:
            raise CommandFailed(f"{self.name}: {' '.join(argv)}: not JSON: {out[-500:]!r}") from None

    def put(self, path: str, data: bytes, mode: int = 0o644) -> None:
        """A file there, whole or not at all."""
        self.ask("put", path, data=base64.b64encode(data).decode(), mode=mode)

    def get(self, path: str) -> bytes:
        return base64.b64decode(self.ask("get", path)["data"])

    def netc(self, *words: str, status: int | None = 0, timeout: float = COMMAND_SECONDS) -> Done:
        """Run this machine's `netc` on a state directory and bpf file system of the tests' own."""
        argv = self._netc_words(words)
        done = self._warm(argv, timeout) if self.warm else self.run(self.netc_path, *argv, status=None, timeout=timeout)
        if "Traceback" in done.err:
            raise CommandFailed(f"{self.name}: netc {' '.join(words)} came to a traceback: {done.err[-3000:]}")
        return self._demanded(("netc", *words), done, status)

    def netc_undoes(self, *words: str) -> int:
        """Register a `netc` command as an undo; its number."""
        argv = self._netc_words(words)
        warm = {"path": self.warm, "line": {"argv": argv, "env": _PLAIN}} if self.warm else None
        number = int(self.ask("undo", [self.netc_path, *argv], warm=warm)["undo"])
        self.undone.note(self, number)
        return number

    def release(self, number: int) -> None:
        """What this undo was for is undone already."""
        self.ask("release", number)

    def _netc_words(self, words: tuple[str, ...]) -> list[str]:
        return [*words, *(() if words[0] in _WITHOUT_STATE else ("--state-dir", self.state, "--bpffs", self.bpffs))]

    def _warm(self, argv: list[str], timeout: float) -> Done:
        line = self.ask("relay", self.warm, timeout, line={"argv": argv, "env": _PLAIN})["line"]
        return Done(line["code"], line["out"], line["err"])

    def netc_json(self, *words: str, status: int | None = 0) -> Any:
        return json.loads(self.netc(*words, "--json", status=status).out)

    def prepare(self) -> None:
        """Our directory and a bpf file system in it; both go when the agent ends."""
        for argv in (["rm", "-rf", self.work], ["umount", "-l", f"{self.work}/bpf"]):
            self.channel.ask("undo", argv)
        self.channel.ask("run", ["mkdir", "-p", "-m", "700", f"{self.work}/bpf"])
        done = self.channel.ask("run", ["mount", "-t", "bpf", "bpf", f"{self.work}/bpf"])
        if done["code"]:
            raise RackError(f"{self.name}: a bpf file system of the tests' own cannot be mounted: {done['err'].strip()}; are you root there?")

    def change(self, *argv: str, undo: list[str]) -> Done:
        """Make a change, with what undoes it registered before: with the agent, so that it is undone also when this process dies."""
        number = self.ask("undo", undo)["undo"]
        self.undone.note(self, number)
        try:
            return self.run(*argv)
        except CommandFailed:
            self.unwind(number)  # as far as it came: what there is nothing of cannot be undone either
            raise

    def unwind(self, number: int) -> list[dict[str, Any]]:
        """Undo everything from that number on; what each command came to."""
        undone: list[dict[str, Any]] = self.ask("unwind", number, timeout=300)["undone"]
        return undone

    def inside(self, netns: str, name: str) -> Machine:
        """The same machine seen from another network namespace."""
        return replace(self, netns=netns, name=name, undone=Undone())

    @contextmanager
    def background(self, *argv: str) -> Iterator[Callable[[], Done]]:
        """A command that runs during the block; the function waits for its end. It is killed with the block."""
        handle = self.ask("start", list(argv))["handle"]
        ended: list[Done] = []

        def finish(timeout: float = 60, signal: int = 0) -> Done:
            answer = self.ask("finish", handle, timeout, signal=signal)
            ended.append(Done(answer["code"], answer["out"], answer["err"]))
            return ended[0]

        try:
            yield finish
        finally:
            if not ended:
                finish(signal=9)


_PLAIN = {"LC_ALL": "C", "NO_COLOR": "1"}
_WITHOUT_STATE = ("compile", "check", "test", "explain", "probe", "--version")
_numbers = itertools.count()


def own_directory(base: str = "/run") -> str:
    """A directory name that no other run, worker or session of this machine has."""
    import os
    import secrets

    return str(Path(base) / f"netc-hwtests-{os.getpid()}-{next(_numbers)}-{secrets.token_hex(2)}")
