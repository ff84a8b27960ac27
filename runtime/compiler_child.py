"""Runs the compiler as a child that can read files and do nothing else.

    python -I -m compiler …     -I: neither the working directory nor PYTHONPATH is searched, so ./lark.py is never imported
    uid, gid nobody             no groups; PR_SET_NO_NEW_PRIVS; dies with its parent
    CAP_DAC_READ_SEARCH         the only capability, ambient: it reads a policy in a 0700 home and writes nowhere
    a directory of its own      working directory, HOME and TMPDIR; removed afterwards
    rlimits and a time limit    CPU, memory, file size
    one socket                  to netc, which it asks for bytecode (runtime.c_compiler)

A netc that is not root runs the child as itself. A root that may not change its uid (bounded capabilities) is an error, never a
compiler with privileges: compile elsewhere and apply the bundle. capset(2), prctl(2): linux/capability.h, linux/prctl.h.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import resource
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO

import msgspec

from compiler import bundle as bundles
from runtime.c_compiler import CCompiler, Ended, Start
from runtime.capabilities import missing
from runtime.programs import Programs, place

CPU_SECONDS = 120
WALL_SECONDS = 300.0
INDEX = "index"  # a file in the child's own directory
MEMORY = 4 << 30  # bytes of address space
_WRITES_C = ("compile", "check", "bench")  # commands that ask for bytecode
_NEEDED = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "CAP_CHOWN", "CAP_KILL", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH")
_LINK = "NETC_C_COMPILER"  # as compiler.targets.c_service says
_CAP_DAC_READ_SEARCH = 2
_CAPABILITY_VERSION_3 = 0x20080522
_PR_SET_PDEATHSIG, _PR_SET_KEEPCAPS, _PR_CAPBSET_DROP = 1, 8, 24
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE = 38, 47, 2


class CompilerFailed(Exception):
    """The compiler refused or broke. `messages`: what it wrote to stderr (drawn diagnostics, or JSON when asked)."""

    def __init__(self, text: str, messages: str = "") -> None:
        super().__init__(text)
        self.messages = messages


@dataclass(frozen=True, slots=True)
class Answer:
    """The child's exit status and both outputs. `messages` may hold lints although the status is 0. index: what it wrote to INDEX."""

    status: int
    output: bytes
    messages: str
    index: bytes = b""


def compile(path: Path, target: str | None = None, json: bool = False, indexed: bool = False, also: str = "") -> Answer:
    """A policy file's bundle, its index when that is asked for (compiler.change_index; empty where it has none), and the compiler's warnings.

    also: one more protected flow to prove (runtime.lockout). Raises CompilerFailed with the diagnostics.
    """
    arguments = ["compile", str(path.absolute()), "-o", "-", *(["--index", INDEX] if indexed else []), *target_option(target)]
    answer = run_child([*arguments, *(["--also-protect", also] if also else []), *(["--json"] if json else [])])
    if answer.status != 0:
        raise CompilerFailed(f"{path} was not compiled", answer.messages)
    return answer


def target_option(target: str | None) -> list[str]:
    """The child's --target: a file by its absolute path, a profile that comes with netc by its name."""
    if target is None:
        return []
    return ["--target", str(Path(target).absolute()) if Path(target).exists() else target]


def run_child(arguments: Sequence[str], wall: float = WALL_SECONDS) -> Answer:
    """`python -I -m compiler ARGUMENTS`. Paths in the arguments have to be absolute: the child has a directory of its own.

    Raises CompilerFailed when it cannot be started, runs out of time, or is killed (by a limit).
    """
    with running(arguments, wall) as answer:
        return answer()


@contextmanager
def running(arguments: Sequence[str], wall: float = WALL_SECONDS) -> Iterator[Callable[[], Answer]]:
    """As run_child, with time for something else until the answer is asked for."""
    _require_capabilities()
    with (
        _own_directory() as directory,
        tempfile.TemporaryFile() as output,
        tempfile.TemporaryFile() as messages,
        Programs(place()) as kept,
        closing(CCompiler(partial(_start, directory, messages, messages), kept, time.monotonic() + wall)) as c,
        _child(partial(_start, directory, output, messages), arguments, c) as (child, link),
    ):

        def answer() -> Answer:
            status = _wait(child, link, c, wall)
            said = _from_here(_content(messages).decode("utf-8", "replace"))
            if status < 0:
                raise CompilerFailed(_killed(-status), said)
            return Answer(status, _content(output), said, _written(Path(directory, INDEX)))

        yield answer


def lacking() -> str:
    """Why a root that is not all of root cannot make a child without its powers; "" when it can."""
    needed = missing(*_NEEDED) if os.geteuid() == 0 else ()
    words = f"the compiler is run by root as nobody, never with root's own powers; for that netc needs {', '.join(needed)} here, which it has not"
    return words if needed else ""


def _require_capabilities() -> None:
    """Raises CompilerFailed, before anything is made."""
    if why := lacking():
        raise CompilerFailed(f"{why}\n  = help: compile where you may (netc compile POLICY -o FILE.bundle) and apply the bundle")


@contextmanager
def _child(start: Start, arguments: Sequence[str], c_compiler: CCompiler) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """The compiler, and the link on which it asks for bytecode; at the end it is killed, whatever it still does."""
    link, theirs = socket.socketpair()
    with link:
        with theirs:
            child = start(["compiler", *arguments], theirs)
        try:
            if arguments and arguments[0] in _WRITES_C:
                c_compiler.wake()
            yield child, link
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()


def _start(directory: str, output: IO[bytes], messages: IO[bytes], words: Sequence[str], link: socket.socket) -> subprocess.Popen[bytes]:
    """`python -I -m WORDS` in the sandbox, with that end of a link to netc."""
    libc = ctypes.CDLL(None, use_errno=True)
    nobody = pwd.getpwnam("nobody")
    bounding = int(Path("/proc/sys/kernel/cap_last_cap").read_text())
    parent = os.getpid()

    def enter_sandbox() -> None:
        if os.geteuid() == 0:
            _become_nobody(libc, nobody.pw_uid, nobody.pw_gid, bounding)
        _prctl(libc, _PR_SET_NO_NEW_PRIVS, 1)
        _prctl(libc, _PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent:
            os._exit(1)
        _set_limits()

    environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "HOME": directory, "TMPDIR": directory, _LINK: str(link.fileno())}
    try:
        return subprocess.Popen(
            [sys.executable, *_how(words), *words[1:]],
            cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=output, stderr=messages,
            preexec_fn=enter_sandbox, close_fds=True, pass_fds=(link.fileno(),),  # noqa: PLW1509  netc has no threads when it compiles
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        raise CompilerFailed(
            f"the compiler cannot be started without privileges ({error}); compile where you may "
            "(netc compile POLICY -o FILE.bundle) and apply the bundle"
        ) from None


def _how(words: Sequence[str]) -> list[str]:
    """-m MODULE; to tell a change, which takes msgspec and nothing else from outside, without the search for site packages: it takes as long as the work."""
    if words[1:2] != ["change"]:
        return ["-I", "-m", words[0]]
    import compiler

    places = dict.fromkeys(str(Path(module.__file__ or "").parent.parent) for module in (compiler, msgspec))
    return ["-I", "-S", "-c", f"import sys; sys.path += {list(places)!r}; from compiler.change_command import main; sys.exit(main(sys.argv[2:]))"]


def _wait(child: subprocess.Popen[bytes], link: socket.socket, c_compiler: CCompiler, wall: float) -> int:
    """Popen.wait with a time limit looks only every 50 ms; a descriptor of the process says at once that it has ended."""
    deadline, ended = time.monotonic() + wall, os.pidfd_open(child.pid)
    watched = [ended, link.fileno()]
    try:
        while ended not in (ready := _ready(watched, deadline)):
            if not ready:
                raise TimeoutError
            if not c_compiler.answer(link):
                watched = [ended]
        return child.wait()
    except Ended as error:
        return error.status
    except TimeoutError:
        raise CompilerFailed(f"the compiler was stopped after {wall:g} s; nothing was changed") from None
    finally:
        os.close(ended)


def _ready(descriptors: Sequence[int], deadline: float) -> list[int]:
    """Those from which something can be read, or that have ended; none when the time is over."""
    poll = select.poll()
    for descriptor in descriptors:
        poll.register(descriptor, select.POLLIN)
    return [descriptor for descriptor, _ in poll.poll(max(0, deadline - time.monotonic()) * 1000)]


def _from_here(messages: str) -> str:
    """Paths under the working directory as the user writes them; the child was given absolute ones."""
    here = Path.cwd()
    return messages if here == here.parent else messages.replace(f"{here}/", "")


def _content(file: IO[bytes]) -> bytes:
    file.seek(0)
    return file.read()


def _written(path: Path) -> bytes:
    """A file of the child's; nothing for what is no plain file, since the child could have put a link there."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK)
    except OSError:
        return b""
    with os.fdopen(handle, "rb") as file:
        return file.read(bundles.MAX_FILE) if path.is_file() else b""


def _killed(number: int) -> str:
    reasons = {
        signal.SIGXCPU: f"the compiler used more than {CPU_SECONDS} s of CPU time and was stopped",
        signal.SIGXFSZ: "the compiler's output is larger than a bundle may be",
        signal.SIGKILL: "the compiler was killed (too much CPU time or memory)",
    }
    return reasons.get(signal.Signals(number), f"the compiler died of {signal.Signals(number).name}") + "; nothing was changed"


@contextmanager
def _own_directory() -> Iterator[str]:
    directory = tempfile.mkdtemp(prefix="netc-compiler-")
    try:
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(directory, nobody.pw_uid, nobody.pw_gid)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _set_limits() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS + 5))
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_FSIZE, (bundles.MAX_FILE + 4096, bundles.MAX_FILE + 4096))
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _become_nobody(libc: ctypes.CDLL, uid: int, gid: int, last_capability: int) -> None:
    """From root to nobody with one ambient capability. Order matters: bounding set and groups while still root."""
    for capability in range(last_capability + 1):
        if capability != _CAP_DAC_READ_SEARCH:
            _prctl(libc, _PR_CAPBSET_DROP, capability)
    os.setgroups([])
    _prctl(libc, _PR_SET_KEEPCAPS, 1)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    bit = 1 << _CAP_DAC_READ_SEARCH
    sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)  # effective, permitted, inheritable; low words, then high words
    if libc.capset(header, sets) != 0:
        raise OSError(ctypes.get_errno(), "capset refused")
    _prctl(libc, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_RAISE, _CAP_DAC_READ_SEARCH)


def _prctl(libc: ctypes.CDLL, option: int, *arguments: int) -> None:
    padded = [ctypes.c_ulong(argument) for argument in (*arguments, 0, 0, 0, 0)[:4]]
    if libc.prctl(option, *padded) != 0:
        raise OSError(ctypes.get_errno(), f"prctl {option} refused")
