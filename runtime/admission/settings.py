"""Settings of a bundle: the groups that the knobs know, and values that they can turn into a number, a list or a line."""

from __future__ import annotations

import re
import struct

from compiler.bundle import Setting
from runtime.admission.refusal import refuse
from runtime.backends import ethtool_ioctl
from runtime.knobs import Refusal, host, steering

_U32 = (1 << 32) - 1
_MOST = 65535  # queues and CPUs
_NUMBERS = ("channels", "ring", "coalesce", "pause", "napi", "link")
_SYSCTLS = ("sysctl", "buffers")
_KEYS = {"napi": ("gro-flush-timeout", "defer-hard-irqs", "irq-suspend-timeout", "threaded"), "link": ("txqueuelen",)}
_SWITCHES = ("feature", "priv-flag", "vlan")
_LISTS = ("rss", "rss-context", "irq", "xps", "rps", "require")
_MOST_FLOWS = 1 << 24
_KEY = re.compile(r"(?:[0-9a-f]{2}){1,256}")
_LINE = 256  # characters of a sysctl's value


def check_setting(setting: Setting, nics: set[str]) -> None:
    """Raises StepError."""
    what = f"setting {setting.nic or 'host'} {setting.group} {setting.key}"
    of_host = setting.group in _SYSCTLS or (setting.group == "require" and not setting.nic)
    if (setting.nic == "") != of_host or (setting.nic and setting.nic not in nics):
        refuse(what, f"{setting.group} is not a setting of nic {setting.nic!r}")
    if not setting.key or len(setting.key) > 200 or not setting.key.isprintable():
        refuse(what, f"{setting.key!r} names nothing that can be set")
    if setting.group in _SYSCTLS:
        try:
            host.Sysctl(setting.key)
        except Refusal as refusal:
            refuse(what, refusal.words, refusal.mend)
    if setting.group in _KEYS and setting.key not in _KEYS[setting.group]:
        refuse(what, f"{setting.group} has: {', '.join(_KEYS[setting.group])}")
    if wrong := _wrong(setting):
        refuse(what, f"{_short(setting.value)} is not {wrong}")


def _wrong(setting: Setting) -> str:
    """What the value should have been; "" when it is."""
    group, value = setting.group, setting.value
    if group in _NUMBERS:
        right = (group in ("channels", "ring") and value == "max") or (isinstance(value, int) and 0 <= value <= _U32)
        return "" if right else "a number of 32 bits"
    if (group, setting.key) == ("hash", "symmetric") and value in steering.TRANSFORMS:
        return ""
    if group in _SWITCHES or (group, setting.key) == ("hash", "symmetric"):
        return "" if value in (0, 1) else "0 or 1"
    if group in _LISTS:
        numbers = value if isinstance(value, tuple) else (value,)
        return "" if numbers and all(isinstance(n, int) and 0 <= n <= _MOST for n in numbers) else "a list of queues or CPUs"
    if group == "buffers":
        numbers = value if isinstance(value, tuple) else (value,)
        return "" if 0 < len(numbers) <= 3 and all(isinstance(n, int) and 0 <= n <= _U32 for n in numbers) else "one to three numbers of 32 bits"
    if group == "sysctl":
        text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
        return "" if text and len(text) < _LINE and text.isprintable() else "one line of text"
    if group == "rfs":
        return "" if isinstance(value, int) and 0 < value <= _MOST_FLOWS else f"a number of flows up to {_MOST_FLOWS}"
    if (group, setting.key) == ("hash", "key"):
        return "" if isinstance(value, str) and _KEY.fullmatch(value) else "a hash key in hexadecimal digits"
    if group == "hash":
        fields = set(value) if isinstance(value, tuple) else {value}
        return "" if setting.key in ethtool_ioctl.FLOW_TYPES and fields <= set(ethtool_ioctl.HASH_FIELDS) else "what a hash covers"
    return _wrong_flow(setting) if group == "ntuple" else "of a group that this netc knows"


def _wrong_flow(setting: Setting) -> str:
    try:
        ethtool_ioctl.flow_spec(setting.value if isinstance(setting.value, tuple) else (setting.value,))
    except (ValueError, OverflowError, IndexError, struct.error):
        return "a flow rule"
    return ""


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "…"
