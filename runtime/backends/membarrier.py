"""membarrier(2): wait until every CPU is done with what it was at, so also with the packets that it judged."""

from __future__ import annotations

import ctypes
import os

_NUMBER = {"x86_64": 324}.get(os.uname().machine, 283)  # 283: the generic table (aarch64, riscv64)
_QUERY = 0  # MEMBARRIER_CMD_QUERY: a bit for each command that this kernel has
_GLOBAL = 1  # MEMBARRIER_CMD_GLOBAL: synchronize_rcu(), kernel/sched/membarrier.c


def wait() -> bool:
    """Return when no BPF program that ran at the call is still running; False where the kernel has no such call (nohz_full)."""
    return _call(_GLOBAL) == 0


def is_there() -> bool:
    """Whether `wait` can tell at all, asked without waiting."""
    found = _call(_QUERY)
    return found > 0 and bool(found & _GLOBAL)


def _call(command: int) -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(_NUMBER, command, 0, 0))
