"""A POLICY|BUNDLE argument: which of the two it is."""

from __future__ import annotations

import os
from pathlib import Path

from compiler import bundle as bundles


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
