"""What this process may do: the capabilities that it has in effect, by name (include/uapi/linux/capability.h)."""

from __future__ import annotations

from pathlib import Path

_NUMBERS = {
    "CAP_CHOWN": 0, "CAP_DAC_OVERRIDE": 1, "CAP_DAC_READ_SEARCH": 2, "CAP_KILL": 5, "CAP_SETGID": 6, "CAP_SETUID": 7, "CAP_SETPCAP": 8,
    "CAP_NET_ADMIN": 12, "CAP_SYS_ADMIN": 21, "CAP_PERFMON": 38, "CAP_BPF": 39,
}  # fmt: skip


def missing(*names: str) -> list[str]:
    """Those of these capabilities that this thread does not have in effect."""
    lines = Path("/proc/thread-self/status").read_text().split("\n")
    effective = int(next(line for line in lines if line.startswith("CapEff:")).split()[1], 16)
    return [name for name in names if not effective >> _NUMBERS[name] & 1]
