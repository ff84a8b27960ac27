"""Programs that were compiled before, by the hash of their C text: `netc` need not wait for the C compiler twice.

    $XDG_CACHE_HOME/netc/programs, /var/cache/netc/programs (root), ~/.cache/netc/programs    0700, its owner's; else it is not used
    <key>.program    netc-program 1 <sha256 of the key and the rest>; the C compiler's files with size and time; the bytecode

The key covers the text, with all headers, and the parts of netc that say how it is compiled. An entry that is cut, changed, another's, or made by
a compiler that has changed since is passed over and made anew. Nothing here is ever missed: whatever goes wrong, the compiler runs.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Self

import compiler.bundle

MOST = 64  # entries; the longest unused goes first
_MAGIC = b"netc-program 1 "
_ENDING = ".program"
_MAX_ENTRY = 1 << 20  # bytes; 30,000 instructions are 240,000
_COMPILER = Path(compiler.bundle.__file__).resolve().parent


def place() -> Path | None:
    """Where this user's programs are kept; None where there is no such place."""
    named = os.environ.get("XDG_CACHE_HOME", "")
    with suppress(OSError, RuntimeError):  # RuntimeError: a user without a home
        if os.path.isabs(named) and os.stat(named).st_uid == os.geteuid():
            return Path(named) / "netc/programs"
        return Path("/var/cache/netc/programs") if os.geteuid() == 0 else Path.home() / ".cache/netc/programs"
    return None


class Programs:
    """The kept programs of one directory; without one nothing is found and nothing kept. Use as a context."""

    def __init__(self, directory: Path | None) -> None:
        self._directory = None if directory is None else _opened(directory)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._directory is not None:
            os.close(self._directory)
            self._directory = None

    def any(self) -> bool:
        """Whether anything is kept: if not, the C compiler will be needed."""
        return any(name.endswith(_ENDING) for name in self._names())

    def find(self, question: bytes) -> bytes | None:
        """The bytecode that this question (compiler.targets.c_service) was answered with."""
        if self._directory is None:
            return None
        with suppress(OSError, ValueError, TypeError):
            name = _key(question)
            code = _decoded(name, _read(name, self._directory))
            if code is not None:
                os.utime(name, dir_fd=self._directory)
            return code
        return None

    def keep(self, question: bytes, code: bytes, made_by: Sequence[str]) -> None:
        """made_by: the C compiler's files."""
        if self._directory is None:
            return
        beside = f"{os.urandom(8).hex()}.tmp"
        with suppress(OSError, ValueError):
            name = _key(question)
            data = _encoded(name, code, made_by)
            try:
                with open(beside, "xb", opener=lambda path, flags: os.open(path, flags, 0o600, dir_fd=self._directory)) as file:
                    file.write(data)
                os.replace(beside, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)
            except OSError:
                os.unlink(beside, dir_fd=self._directory)
                raise
            self._make_room()

    def _names(self) -> list[str]:
        if self._directory is None:
            return []
        with suppress(OSError):
            return os.listdir(self._directory)
        return []

    def _make_room(self) -> None:
        """Also of what a writer that was killed left."""
        names = self._names()
        if len(names) > MOST:
            used = {name: os.stat(name, dir_fd=self._directory).st_mtime_ns for name in names}
            for name in sorted(names, key=used.__getitem__)[:-MOST]:
                os.unlink(name, dir_fd=self._directory)


def _opened(directory: Path) -> int | None:
    """The directory's descriptor, through which all is done, so that it cannot be exchanged; None when others may write there."""
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        opened = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return None
    found = os.fstat(opened)
    if found.st_uid == os.geteuid() and not found.st_mode & 0o022:
        return opened
    os.close(opened)
    return None


def _read(name: str, directory: int) -> bytes:
    """Raises OSError, and ValueError for what is not a file of ours."""
    with open(os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=directory), "rb") as file:
        found = os.fstat(file.fileno())
        if not stat.S_ISREG(found.st_mode) or found.st_uid != os.geteuid() or found.st_size > _MAX_ENTRY:
            raise ValueError(f"{name} is not a program that netc kept")
        return file.read(_MAX_ENTRY)


def _key(question: bytes) -> str:
    """Names an entry: text, headers, function, and how netc compiles."""
    found = hashlib.sha256()
    ways = (_COMPILER / "targets/bcc.py", *sorted(path for path in (_COMPILER / "stub_headers").rglob("*.h")))
    for part in (*(path.read_bytes() for path in ways), question):
        found.update(len(part).to_bytes(8, "big") + part)
    return found.hexdigest() + _ENDING


def _encoded(name: str, code: bytes, made_by: Sequence[str]) -> bytes:
    rest = json.dumps([[path, *_state(path)] for path in made_by]).encode() + b"\n" + code
    return _seal(name, rest) + b"\n" + rest


def _decoded(name: str, data: bytes) -> bytes | None:
    head, _, rest = data.partition(b"\n")
    if head != _seal(name, rest):
        return None
    made_by, _, code = rest.partition(b"\n")
    return code if all(_state(path) == now for path, *now in json.loads(made_by)) else None


def _seal(name: str, rest: bytes) -> bytes:
    return _MAGIC + hashlib.sha256(name.encode() + b"\n" + rest).hexdigest().encode()


def _state(path: str) -> list[int]:
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]
