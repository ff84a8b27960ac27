"""A POLICY|BUNDLE|PLAN argument: which of them it is."""

from __future__ import annotations

import os
from pathlib import Path

from compiler import bundle as bundles

_PLAN = b"netc-plan"  # how a plan file begins (runtime.plan_file)


class InputError(Exception):
    """The file cannot be read. The text names it."""


def read(path: Path) -> tuple[bool, bytes]:
    """(is a bundle, its bytes); a policy's bytes are not read here. Raises InputError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            if not path.is_file():
                raise InputError(f"{path} is not a file")
            if not file.read(len(bundles.MAGIC)).startswith(b"netc-bundle"):
                return False, b""
            file.seek(0)
            return True, file.read(bundles.MAX_FILE + 1)
    except OSError as error:
        raise InputError(f"{path}: {error.strerror}") from None


def read_plan(path: Path) -> bytes:
    """The bytes of a saved plan; empty for a file that claims to be none, and for one that cannot be read (`read` says why)."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
        with os.fdopen(handle, "rb") as file:
            if not path.is_file() or file.read(len(_PLAN)) != _PLAN:
                return b""
            return _PLAN + file.read(bundles.MAX_FILE + (17 << 20))
    except OSError:
        return b""
