"""bcc as a pure compiler: C text in, BPF bytecode out. No privilege, no map, no kernel headers, nothing loaded.

Maps are symbolic: `MAP(id)` and `VALUE(id)` of prelude.h become ld_imm64 with source register 1 or 2 and the id in `imm`; the loader
(runtime.backends.bpf.load_program) puts descriptors there. bcc 0.26 prints its findings to descriptor 2 from C++ and wants its
kernel tree in the environment, so a compilation borrows both for its time: one at a time in a process.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_TREE = Path(__file__).resolve().parent.parent / "stub_headers"
_WORD = 8  # bytes of an instruction
elsewhere: Callable[[str, str], bytes] | None = None


class CError(Exception):
    """bcc refused the text: a bug in netc's lowering, since C is never the user's. Carries the compiler's messages."""


def compile_c(text: str, function: str) -> bytes:
    """The bytecode of `function`. The same text gives the same bytes, as root and as nobody. Raises CError.

    Needs a readable stub tree; writes only an unnamed temporary file. Where netc said so, another process compiles (c_service).
    """
    if elsewhere is not None:
        return elsewhere(text, function)
    with tempfile.TemporaryFile() as messages, _environment(), _captured(messages):
        code, words = _run(text, function)
        messages.flush()
        messages.seek(0)
        said = messages.read().decode(errors="replace").strip()
    if code is None:
        raise CError(said or words)
    return code


def _run(text: str, function: str) -> tuple[bytes | None, str]:
    from bcc import BPF  # 0.1 s, and only Debian's python3 has it

    try:
        code = bytes(BPF(text=text.encode()).dump_func(function.encode()))
    except Exception as error:  # noqa: BLE001 (bcc raises bare Exception for whatever clang refuses)
        return None, str(error)
    if not code or len(code) % _WORD:
        return None, f"bcc made no program of {function}"
    return code, ""


@contextmanager
def _environment() -> Iterator[None]:
    """BCC_KERNEL_SOURCE for bcc's own chdir; ARCH would change its include paths, HOME may be missing."""
    kept = {name: os.environ.get(name) for name in ("BCC_KERNEL_SOURCE", "ARCH")}
    os.environ["BCC_KERNEL_SOURCE"] = str(_TREE)
    os.environ.pop("ARCH", None)
    try:
        yield
    finally:
        for name, value in kept.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _captured(target: IO[bytes]) -> Iterator[None]:
    """Send descriptor 2 to `target`: clang's messages do not pass through Python's sys.stderr."""
    saved = os.dup(2)
    try:
        os.dup2(target.fileno(), 2)
        yield
    finally:
        os.dup2(saved, 2)
        os.close(saved)
