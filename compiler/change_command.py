"""`change INDEX POLICY BASE [ALSO [TARGET]]`: what of an applied policy's tables a changed text changes, on stdout. ALSO: compiler.also_protect.Flow, or "".

Either a change as a file (tables.changes), or one line of JSON: {"whole": why}. Apart from cli.py, since what that needs takes as long as the answer.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from compiler import change, change_index
from compiler.change_entries import Whole
from compiler.diagnostics import CompileError
from compiler.tables import changes

if TYPE_CHECKING:
    from compiler.also_protect import Flow


def main(arguments: list[str]) -> int:
    """The exit status; 1 where the index or the profile cannot be read."""
    gc.disable()
    index, policy, base, *more = arguments
    also, *target = more or [""]
    try:
        known = msgspec.json.decode(Path(index).read_bytes(), type=change_index.Index)
        found = change.delta(known, base, Path(policy), change_index.profile_digest(target[0] if target else None), _also(also))
    except Whole as error:
        sys.stdout.buffer.write(msgspec.json.encode({"whole": str(error)}) + b"\n")
        return 0
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError, CompileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(changes.encode(found))
    return 0


def _also(text: str) -> Flow | None:
    if not text:
        return None
    from compiler import also_protect  # only over a connection

    return also_protect.decode(text)
