"""`change INDEX POLICY BASE [TARGET]`: what of an applied policy's tables a changed text changes, on stdout.

Either a change as a file (tables.changes), or one line of JSON: {"whole": why}. Apart from cli.py, since what that needs takes as long as the answer.
"""

from __future__ import annotations

import gc
import sys
from pathlib import Path

import msgspec

from compiler import change, change_index
from compiler.diagnostics import CompileError
from compiler.tables import changes


def main(arguments: list[str]) -> int:
    """The exit status; 1 where the index or the profile cannot be read."""
    gc.disable()
    index, policy, base, *target = arguments
    try:
        known = msgspec.json.decode(Path(index).read_bytes(), type=change_index.Index)
        found = change.delta(known, base, Path(policy), change_index.profile_digest(target[0] if target else None))
    except change.Whole as error:
        sys.stdout.buffer.write(msgspec.json.encode({"whole": str(error)}) + b"\n")
        return 0
    except (OSError, msgspec.DecodeError, CompileError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(changes.encode(found))
    return 0
