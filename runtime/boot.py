"""Which boot of the kernel this is."""

from __future__ import annotations

from pathlib import Path


def boot_id() -> str:
    """Nothing of netc's in the kernel outlives the boot that has this id."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
