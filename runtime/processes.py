"""A process as /proc/PID/stat shows it (proc_pid_stat(5)). A number alone names nobody: numbers come back, and a dead process keeps its own until it is waited for."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

PROC = Path("/proc")
_GONE = ("Z", "X", "x")
_STARTED = 19  # field 22, behind the name, which is field 2


class Process(NamedTuple):
    """started: when, in clock ticks since boot. gone: dead, and not waited for."""

    pid: int
    parent: int
    name: str
    started: int
    gone: bool


def find(pid: int) -> Process | None:
    """None where there is no such process, or it is another's whom this one may not see."""
    if pid <= 0:
        return None
    try:
        stat = (PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return None
    name, _, rest = stat.partition("(")[2].rpartition(")")
    fields = rest.split()
    return Process(pid, int(fields[1]), name, int(fields[_STARTED]), fields[0] in _GONE)
