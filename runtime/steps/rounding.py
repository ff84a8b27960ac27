"""What a driver rounds: igb makes rings of 100 entries 104 long, the kernel makes a hash table whole pages.

A wish is held when the value that was taken is near it: at most twice or half of it. What is farther off, and 0 for something, is refused: the device
then does something else than it was told.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from compiler.bundle import Setting
from runtime.knobs import Value

if TYPE_CHECKING:
    from compiler.bundle import Bundle
    from runtime.context import Context
    from runtime.steps import Step

_GROUPS = ("ring", "coalesce")
_SYSCTLS = ("net.netfilter.nf_conntrack_buckets",)


def near(setting: Setting, asked: Value, took: Value) -> bool:
    """Is `took` a rounding of `asked`, of a knob that is rounded?"""
    if setting.group not in _GROUPS and setting.key not in _SYSCTLS:
        return False
    wanted, got = _number(asked), _number(took)
    return wanted is not None and got is not None and wanted > 1 and wanted / 2 <= got <= wanted * 2


def is_size(setting: Setting, took: Value) -> bool:
    """Could the policy ask for `took` instead? Of a switch that stays off there is nothing else to ask for."""
    return (setting.group in _GROUPS or setting.key in _SYSCTLS) and (_number(took) or 0) > 1


def told(asked: object, took: object) -> str:
    """For people."""
    return f"asked {asked}, the driver took {took}"


def of_steps(steps: Iterable[Step]) -> list[tuple[str, str]]:
    """What was rounded while these steps ran: the statement, and what became of it."""
    return [(setting_of(step), words) for step in steps if (words := str(getattr(step, "rounded", "")))]


def setting_of(step: Step) -> str:
    """The knob of a step, and where it was written."""
    return step.text.partition(": ")[0]


def kept(context: Context, bundle: Bundle) -> list[tuple[str, str]]:
    """What is in force of this bundle as the driver rounded it. Raises StepError when the memory of settings cannot be read."""
    from runtime.steps import setting_words
    from runtime.steps.saved_settings import SavedSettings

    memory, found = SavedSettings(context.state), []
    for setting in bundle.settings:
        saved = memory.get(setting_words.device_name(context, setting), setting) if setting.group in _GROUPS or setting.key in _SYSCTLS else None
        if saved is not None and saved.took is not None and str(saved.asked) == str(setting.value):
            found.append((setting_words.place(setting), told(saved.asked, saved.took)))
    return found


def _number(value: Value) -> int | None:
    if isinstance(value, int):
        return value
    return int(value) if isinstance(value, str) and value.isdecimal() else None
