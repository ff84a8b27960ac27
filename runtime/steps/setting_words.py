"""How settings are told: their place in the policy, values for people, and a device's refusal with a mend."""

from __future__ import annotations

from compiler.bundle import Setting
from runtime.context import Context
from runtime.knobs import Refusal, Value
from runtime.steps import StepError

_LONG = 12  # entries of a value that are shown


def device_name(context: Context, setting: Setting) -> str:
    """The device that a setting's nic is bound to; "" for the host. Raises StepError."""
    if not setting.nic:
        return ""
    try:
        return context.device(setting.nic).name
    except KeyError:
        raise StepError(place(setting), f"nic {setting.nic} is bound to no device", f"bind it: --nic {setting.nic}=DEVICE") from None


def place(setting: Setting) -> str:
    """A setting and where it was written: wan ring rx (edge.netc:31)."""
    return f"{setting.nic or 'host'} {setting.group} {setting.key} ({setting.file}:{setting.line})"


def show(value: Value | tuple[int | str, ...]) -> str:
    """A value for people; a queue that no CPU is named for shows as none, and of a long table what it repeats or how it begins."""
    if isinstance(value, list | tuple) and len(value) > _LONG:
        turn = next((size for size in range(1, _LONG) if all(item == value[at % size] for at, item in enumerate(value))), 0)
        return f"{show(value[: turn or _LONG])}{' in turn' if turn else ', …'} ({len(value)} entries)"
    return (", ".join(str(item) or "none" for item in value) or "none") if isinstance(value, list | tuple) else str(value)


def refusal_error(setting: Setting, refusal: Refusal, device: str = "") -> StepError:
    from runtime import driver_hints

    if refusal.mend:  # netc knows the reason
        return StepError(place(setting), refusal.words, refusal.mend)
    written = setting.text or f"{setting.group} {setting.key}"
    mend = driver_hints.beside(f"write `prefer {written.removeprefix('prefer ')}` to go on without it", device, setting.group.removesuffix("-context"))
    return StepError(place(setting), refusal.words, mend)
