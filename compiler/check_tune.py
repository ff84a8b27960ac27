"""`tune` blocks → ir.Setting: typed knobs under ethtool's names. What a `host` block has is in check_host.py."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from compiler import check_coalesce, check_host, ir, syntax, units
from compiler.knob_values import MOST, SWITCH, Found, nanoseconds, number, switch, wrong_name
from compiler.scope import Scope
from compiler.source import Span
from compiler.tables import offloads

_RING_SIZES = ("rx", "tx", "rx-mini", "rx-jumbo")
_RING_BYTES = ("rx-buf-len", "cqe-size", "tx-push-buf-len", "hds-thresh")
_RING_SWITCHES = ("tx-push", "rx-push")
_RINGS = (*_RING_SIZES, *_RING_BYTES, *_RING_SWITCHES, "tcp-data-split")
_MAX = (*_RING_SIZES, "tx-push-buf-len", "hds-thresh")  # those of which the device tells the greatest value
_SPLIT = {"off": 1, "on": 2}  # ETHTOOL_TCP_DATA_SPLIT_*; 0 leaves it to the driver
_PAUSE = ("rx", "tx", "autoneg")
_KNOB = re.compile(r"[a-z0-9][a-z0-9_.+/-]{0,62}", re.IGNORECASE)
NAPI: dict[str, Callable[[str], int]] = {
    "gro-flush-timeout": nanoseconds, "irq-suspend-timeout": nanoseconds, "defer-hard-irqs": lambda text: units.count(text, "a number of polls", 0, (1 << 31) - 1),
}  # fmt: skip


def settings(scope: Scope, blocks: list[syntax.Tune]) -> tuple[ir.Setting, ...]:
    """Every setting of the `tune` and `host` blocks, in their order."""
    found: list[ir.Setting] = []
    for block in blocks:
        nic = scope.nic(block.nic) if block.nic else None
        if block.nic and nic is None:
            continue
        for item in block.items:
            if isinstance(item, syntax.Knobs):
                name = nic.name if nic else ""
                for group, key, value in _KINDS[item.kind](scope, item) if nic else check_host.KINDS[item.kind](scope, item):
                    found.append(ir.Setting(name, group, key, value, item.prefer, item.text, item.span))
    return tuple(found)


def check_once(scope: Scope, found: tuple[ir.Setting, ...]) -> None:
    """A knob has one value: set twice, one of them would be silently lost. And no offload is on whose need is off."""
    first: dict[tuple[str, str, str], ir.Setting] = {}
    for setting in found:
        group = "sysctl" if setting.group == "buffers" else setting.group
        earlier = first.setdefault((setting.nic, group, setting.key), setting)
        if earlier is not setting:
            what = setting.key if group == "sysctl" else f"{group} {setting.key}"
            scope.error("N053", f"`{what}` is set twice", setting.span, "keep one", _note(earlier, setting, "the first one"))
    features = [setting for setting in first.values() if setting.group == "feature"]
    for at, setting in enumerate(features):
        for earlier in features[:at]:
            if earlier.nic == setting.nic:
                _check_pair(scope, earlier, setting)


def _check_pair(scope: Scope, first: ir.Setting, second: ir.Setting) -> None:
    if offloads.overlap(first.key, second.key):
        what = f"`{first.key}` and `{second.key}` switch the same offload"
        scope.error("N053", what, second.span, "keep one", _note(first, second, "the first one"))
        return
    if first.value == second.value:
        return
    on, off = (first, second) if first.value else (second, first)
    if words := offloads.contradiction(on.key, off.key):
        help = f"switch `{off.key}` on too, or `{on.key}` off"
        message = f"`{on.key}` cannot be on while `{off.key}` is off: the kernel would leave it off ({words})"
        scope.error("N072", message, second.span, help, _note(first, second, f"`{first.key}` is switched here"))


def _note(first: ir.Setting, second: ir.Setting, words: str) -> tuple[tuple[Span, str], ...]:
    """Where the other one is, if that is another place."""
    return ((first.span, words),) if first.span != second.span else ()


def _ring(scope: Scope, item: syntax.Knobs) -> Found:
    for name, value in item.parts:
        key, word = name.text, scope.single(value)
        if key not in _RINGS:
            wrong_name(scope, f"there is no ring `{key}`", name, _RINGS)
        elif word.text == "max" and key in _MAX:
            yield "ring", key, "max"
        elif key in _RING_SIZES:
            yield from number(scope, "ring", key, value, lambda text: units.count(text, "a ring size", 1, MOST))
        elif key in _RING_BYTES:
            yield from number(scope, "ring", key, value, units.size)
        else:
            yield from switch(scope, "ring", key, value, _SPLIT if key == "tcp-data-split" else SWITCH)


def _offload(scope: Scope, item: syntax.Knobs) -> Found:
    group = "feature" if item.kind == "offload" else item.kind
    for name, value in item.parts:
        if not _KNOB.fullmatch(name.text):
            wrong_name(scope, f"`{name.text}` is not the name of a feature", name, (), "write it as `ethtool -k` does: gro, tso, lro")
        else:
            yield from switch(scope, group, name.text, value)


def _pause(scope: Scope, item: syntax.Knobs) -> Found:
    for name, value in item.parts:
        if name.text not in _PAUSE:
            wrong_name(scope, f"pause frames have no `{name.text}`", name, _PAUSE)
        else:
            yield from switch(scope, "pause", name.text, value)


def _napi(scope: Scope, item: syntax.Knobs) -> Found:
    for name, value in item.parts:
        if name.text == "threaded":
            yield from switch(scope, "napi", name.text, value)
        elif parse := NAPI.get(name.text):
            yield from number(scope, "napi", name.text, value, parse)
        elif name.text in check_host.NAPI:
            wrong_name(scope, f"a nic has no NAPI `{name.text}` of its own", name, (), f"it is the host's: host {{ napi {name.text} {value.text} }}")
        else:
            wrong_name(scope, f"NAPI has no `{name.text}`", name, (*NAPI, "threaded"))


def _length(scope: Scope, item: syntax.Knobs) -> Iterator[tuple[str, str, int]]:
    yield from number(scope, "link", "txqueuelen", item.parts[0][0], lambda text: units.count(text, "a queue's length in packets", 0, MOST))


_KINDS: dict[str, Callable[[Scope, syntax.Knobs], Found]] = {
    "ring": _ring, "offload": _offload, "priv-flag": _offload, "pause": _pause, "coalesce": check_coalesce.coalesce, "napi": _napi, "txqueuelen": _length,
}  # fmt: skip
