"""NIC and host settings: checked by name, type and range, and turned into the bundle's form. What the device says is the runtime's to ask.

The vocabulary is that of ethtool(8), sysctl(8) and netc's own few groups; KEYS is all of it.
"""

from __future__ import annotations

import re

from compiler import bundle, ir
from compiler.diagnostics import CompileError, Diagnostic
from compiler.place import Placed, setting_name

_COUNT = (0, (1 << 32) - 1)
_SWITCH = (0, 1)
_COALESCE = (
    "rx-usecs", "rx-frames", "rx-usecs-irq", "rx-frames-irq", "tx-usecs", "tx-frames", "tx-usecs-irq", "tx-frames-irq", "stats-block-usecs",
    "pkt-rate-low", "rx-usecs-low", "rx-frames-low", "tx-usecs-low", "tx-frames-low", "pkt-rate-high", "rx-usecs-high", "rx-frames-high",
    "tx-usecs-high", "tx-frames-high", "sample-interval", "tx-aggr-max-bytes", "tx-aggr-max-frames", "tx-aggr-time-usecs",
)  # fmt: skip
_FLOWS = ("tcp4", "tcp6", "udp4", "udp6", "sctp4", "sctp6")
FIELDS = ("src-ip", "dst-ip", "src-port", "dst-port")

# group -> key -> the least and greatest value; "max" is allowed too where MAX has the group.
NUMBERS: dict[str, dict[str, tuple[int, int]]] = {
    "channels": {key: (0 if key == "other" else 1, 65535) for key in ("rx", "tx", "combined", "other")},
    "ring": {
        **{key: _COUNT for key in ("rx", "rx-mini", "rx-jumbo", "tx", "rx-buf-len", "cqe-size", "tx-push-buf-len", "hds-thresh")},
        "tx-push": _SWITCH, "rx-push": _SWITCH, "tcp-data-split": (0, 2),
    },
    "coalesce": {**{key: _COUNT for key in _COALESCE}, **{key: _SWITCH for key in ("adaptive-rx", "adaptive-tx", "cqe-mode-rx", "cqe-mode-tx")}},
    "pause": {key: _SWITCH for key in ("autoneg", "rx", "tx")},
    "vlan": {"tags-in-frame": _SWITCH},
    "rfs": {"flows": (1, 1 << 24)},
    "napi": {"gro-flush-timeout": _COUNT, "defer-hard-irqs": (0, (1 << 31) - 1), "irq-suspend-timeout": _COUNT, "threaded": _SWITCH},
    "link": {"txqueuelen": _COUNT},
}  # fmt: skip
MAX = ("channels", "ring")
SWITCHES = ("feature", "priv-flag")  # any name: the device has the list of them
CPU_LISTS = ("irq", "xps", "rps")
HOST = ("sysctl", "buffers")  # buffers: sysctls whose values are the least
TRANSFORMS = ("symmetric-xor", "symmetric-or-xor")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.+/ -]{0,62}\Z", re.IGNORECASE)
_SYSCTL = re.compile(r"net(\.[a-z0-9][a-z0-9_/-]*){1,6}\Z", re.IGNORECASE)


def lower(placed: Placed) -> tuple[bundle.Setting, ...]:
    """Every setting once, in source order. Raises CompileError (N751 unknown, N752 wrong value, N753 said twice)."""
    found: list[Diagnostic] = []
    kept: dict[tuple[str, str, str], ir.Setting] = {}
    for setting in placed.settings:
        if wrong := _wrong(setting):
            found.append(wrong)
            continue
        first = kept.setdefault((setting.nic, setting.group, setting.key), setting)
        if first.value != setting.value:
            found.append(_twice(first, setting))
    if found:
        raise CompileError(found)
    return tuple(map(_lowered, kept.values()))


def _lowered(setting: ir.Setting) -> bundle.Setting:
    span, value = setting.span, _canonical(setting)
    return bundle.Setting(setting.nic, setting.group, setting.key, value, setting.prefer, span.file, span.line, setting.text)


def _canonical(setting: ir.Setting) -> int | str | tuple[int | str, ...]:
    """on and off are 1 and 0 from here on."""
    if setting.group in SWITCHES or NUMBERS.get(setting.group, {}).get(setting.key) == _SWITCH:
        return {"on": 1, "off": 0}.get(str(setting.value), setting.value)
    return setting.value


def _twice(first: ir.Setting, second: ir.Setting) -> Diagnostic:
    message = f"{setting_name(second)} is set to {_show(first.value)} and to {_show(second.value)}"
    return Diagnostic("N753", message, second.span, "keep one of the two", ((first.span, "first set here"),))


def _show(value: int | str | tuple[int | str, ...]) -> str:
    return ", ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _wrong(setting: ir.Setting) -> Diagnostic | None:
    unknown, wanted = _judge(setting)
    if unknown:
        return Diagnostic("N751", f"there is no setting {setting_name(setting)!r}", setting.span, unknown)
    if wanted:
        return Diagnostic("N752", f"{setting_name(setting)} cannot be {_show(setting.value)!r}", setting.span, wanted)
    return None


def _judge(setting: ir.Setting) -> tuple[str, str]:
    """What to do about an unknown group or key; what the value should be."""
    group, key, value = setting.group, setting.key, _canonical(setting)
    if (group in HOST) == bool(setting.nic):
        return "sysctl settings belong into `host`, all others to a nic", ""
    if group in NUMBERS:
        return _judge_number(group, key, value)
    if group in SWITCHES:
        bad = "" if _NAME.match(key) else "the name of a feature as `ethtool -k` and `--show-priv-flags` list them"
        return bad, "" if value in (0, 1) else "on or off"
    if group == "hash":
        return _judge_hash(key, value)
    if group in HOST:
        return _judge_sysctl(key, value)
    return _judge_list(group, key, value)


def _judge_number(group: str, key: str, value: object) -> tuple[str, str]:
    if key not in NUMBERS[group]:
        return f"{group} has: {', '.join(sorted(NUMBERS[group]))}", ""
    low, high = NUMBERS[group][key]
    if (value == "max" and group in MAX) or (isinstance(value, int) and low <= value <= high):
        return "", ""
    return "", "on or off" if (low, high) == _SWITCH else f"a number from {low} to {high}" + (", or max" if group in MAX else "")


def _judge_hash(key: str, value: object) -> tuple[str, str]:
    if key == "symmetric":
        return "", "" if value in (0, 1, *TRANSFORMS) else "on or off"
    if key == "key":
        return "", "" if isinstance(value, str) and re.fullmatch(r"([0-9a-f]{2})+", value) else "bytes in hexadecimal digits"
    if key not in _FLOWS:
        return f"hash has: {', '.join(_FLOWS)}, symmetric, key", ""
    right = isinstance(value, tuple) and value and len(set(value)) == len(value) and set(value) <= set(FIELDS)
    return "", "" if right else f"one or more of {', '.join(FIELDS)}"


def _judge_sysctl(key: str, value: object) -> tuple[str, str]:
    if not _SYSCTL.match(key) or ".." in key:
        return "netc sets only what lies under net., written as sysctl(8) does: net.ipv4.tcp_rmem", ""
    text = " ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    return "", "" if text and len(text) < 256 and text.isprintable() else "one line of text or numbers"


def _judge_list(group: str, key: str, value: object) -> tuple[str, str]:
    numbers = isinstance(value, tuple) and value and all(isinstance(item, int) and 0 <= item < 65536 for item in value)
    if (group in CPU_LISTS and key == "cpus") or group == "require":
        return "", "" if numbers else "a list of CPUs: 0-3"
    if (group, key) == ("rss", "indirection") or group == "rss-context":
        return "", "" if numbers else "a list of queues: 0-3"
    if group == "ntuple":
        return "", "" if isinstance(value, tuple) and len(value) >= 3 else "a flow type, its fields and an action"
    groups = (*NUMBERS, *SWITCHES, *CPU_LISTS, *HOST, "hash", "rss", "rss-context", "ntuple")
    return f"settings are grouped as: {', '.join(sorted(groups))}", ""
