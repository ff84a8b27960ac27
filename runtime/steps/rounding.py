"""What a driver rounds: igb makes rings of 100 entries 104 long, the kernel makes a hash table whole pages.

A wish is held when the value that was taken is near it: at most twice or half of it. What is farther off, and 0 for something, is refused: the device
then does something else than it was told.
"""

from __future__ import annotations

from compiler.bundle import Setting
from runtime.knobs import Value

_GROUPS = ("ring", "coalesce")
_SYSCTLS = ("net.netfilter.nf_conntrack_buckets",)


def near(setting: Setting, asked: Value, took: Value) -> bool:
    """Is `took` a rounding of `asked`, of a knob that is rounded?"""
    if setting.group not in _GROUPS and setting.key not in _SYSCTLS:
        return False
    wanted, got = _number(asked), _number(took)
    return wanted is not None and got is not None and wanted > 1 and wanted / 2 <= got <= wanted * 2


def told(asked: object, took: object) -> str:
    """For people."""
    return f"asked {asked}, the driver took {took}"


def _number(value: Value) -> int | None:
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and value.isdecimal() else None
