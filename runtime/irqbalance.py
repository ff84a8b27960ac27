"""irqbalance beside a policy that pins interrupts: it moves them again every ten seconds, unless it is told not to."""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator
from pathlib import Path

from compiler.bundle import Bundle
from runtime.context import Context
from runtime.knobs import affinity

_PROC = Path("/proc")


def conflicts(context: Context, bundle: Bundle) -> list[tuple[str, str]]:
    """(device, what to do) for each nic whose interrupts the policy pins and a running irqbalance may move."""
    pinning = {setting.nic for setting in bundle.settings if setting.group == "irq"}
    running = list(_running()) if pinning else []
    found = []
    for device in context.devices:
        if device.nic not in pinning:
            continue
        irqs = affinity.device_irqs(device)
        for process in running:
            left = [irq for irq in irqs if irq not in _banned(process)]
            if left:
                found.append((device.name, words(process, left)))
    return found


def words(process: int, irqs: list[int]) -> str:
    """What is wrong, and the line that mends it."""
    how = 'IRQBALANCE_ARGS="' + " ".join(f"--banirq={irq}" for irq in irqs) + '"'
    return (
        f"irqbalance (process {process}) moves the interrupts that the policy pins, seconds after each apply"
        f"\n  = help: in /etc/default/irqbalance write {how}; or stop it: systemctl disable --now irqbalance"
    )


def _running() -> Iterator[int]:
    """Processes of that name in this view of /proc: all of one kernel have the same interrupts."""
    for name in filter(str.isdecimal, os.listdir(_PROC)):
        with contextlib.suppress(OSError):
            if (_PROC / name / "comm").read_text().strip() == "irqbalance":
                yield int(name)


def _banned(process: int) -> set[int]:
    """--banirq=N, --banirq N or -i N of its command line."""
    with contextlib.suppress(OSError, ValueError):
        words_ = (_PROC / str(process) / "cmdline").read_bytes().decode("utf-8", "replace").split("\0")
        joined = [word.partition("=")[2] for word in words_ if word.startswith("--banirq=")]
        apart = [after for word, after in itertools.pairwise(words_) if word in ("--banirq", "-i")]
        return {int(text) for text in (*joined, *apart)}
    return set()
