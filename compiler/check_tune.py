"""`tune` and `host` blocks → ir.Setting: typed knobs under ethtool's and sysctl's names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

from compiler import ir, syntax, units
from compiler.findings import LiteralError
from compiler.scope import Scope
from compiler.suggest import hint

_RINGS = ("rx", "tx", "rx-mini", "rx-jumbo")
_PAUSE = ("rx", "tx", "autoneg")
_SWITCH = {"on": 1, "off": 0}
_SYSCTL = re.compile(r"net(\.[A-Za-z0-9_/-]+)+")
_KNOB = re.compile(r"[a-z0-9][a-z0-9_.+/-]{0,62}", re.IGNORECASE)
_MOST = (1 << 32) - 1
Value = int | str | tuple[int | str, ...]


def settings(scope: Scope, blocks: list[syntax.Tune]) -> tuple[ir.Setting, ...]:
    """Every setting of the `tune` and `host` blocks, in their order."""
    found: list[ir.Setting] = []
    for block in blocks:
        nic = scope.nic(block.nic) if block.nic else None
        if block.nic and nic is None:
            continue
        for item in block.items:
            if isinstance(item, syntax.Knobs):
                for key, value in _KINDS[item.kind](scope, item):
                    group = "feature" if item.kind == "offload" else item.kind
                    found.append(
                        ir.Setting(nic.name if nic else "", group, key, value, item.prefer, item.text, item.span)
                    )
    return tuple(found)


def check_once(scope: Scope, found: tuple[ir.Setting, ...]) -> None:
    """A knob has one value: set twice, one of them would be silently lost."""
    first: dict[tuple[str, str, str], ir.Setting] = {}
    for setting in found:
        earlier = first.setdefault((setting.nic, setting.group, setting.key), setting)
        if earlier is not setting:
            what = setting.key if setting.group == "sysctl" else f"{setting.group} {setting.key}"
            scope.error("N053", f"`{what}` is set twice", setting.span, "keep one", ((earlier.span, "the first one"),))


def _ring(scope: Scope, item: syntax.Knobs) -> Iterator[tuple[str, Value]]:
    for name, value in item.parts:
        if name.text not in _RINGS:
            scope.error("N070", f"there is no ring `{name.text}`", name.span, hint(name.text, _RINGS))
        elif scope.single(value).text == "max":
            yield name.text, "max"
        else:
            yield from _number(scope, name.text, value, lambda text: units.count(text, "a ring size", 1, _MOST))


def _offload(scope: Scope, item: syntax.Knobs) -> Iterator[tuple[str, Value]]:
    for name, value in item.parts:
        if not _KNOB.fullmatch(name.text):
            scope.error(
                "N070",
                f"`{name.text}` is not the name of a feature",
                name.span,
                "write it as `ethtool -k` does: gro, tso, lro",
            )
        else:
            yield from _switch(scope, name.text, value)


def _pause(scope: Scope, item: syntax.Knobs) -> Iterator[tuple[str, Value]]:
    for name, value in item.parts:
        if name.text not in _PAUSE:
            scope.error("N070", f"pause frames have no `{name.text}`", name.span, hint(name.text, _PAUSE))
        else:
            yield from _switch(scope, name.text, value)


def _switch(scope: Scope, key: str, value: syntax.Word) -> Iterator[tuple[str, Value]]:
    word = scope.single(value)
    if word.text in _SWITCH:
        yield key, _SWITCH[word.text]
    else:
        scope.error("N070", f"`{word.text}` is neither on nor off", word.span, "write `on` or `off`")


def _number(scope: Scope, key: str, value: syntax.Word, parse: Callable[[str], int]) -> Iterator[tuple[str, Value]]:
    word = scope.single(value)
    try:
        yield key, parse(word.text)
    except LiteralError as error:
        scope.findings.literal(error, word.span)


def _coalesce(scope: Scope, item: syntax.Knobs) -> Iterator[tuple[str, Value]]:
    """`adaptive`, `adaptive off`, `rx 50us`, `rx 50us 64 frames`."""
    for part in item.parts:
        head, rest = part[0], part[1:]
        if head.text == "adaptive" and len(rest) <= 1:
            on = _SWITCH.get(rest[0].text if rest else "on")
            if on is None:
                scope.error(
                    "N070",
                    f"`{rest[0].text}` is neither on nor off",
                    rest[0].span,
                    "write `adaptive` or `adaptive off`",
                )
                continue
            yield "adaptive-rx", on
            yield "adaptive-tx", on
        elif head.text in ("rx", "tx") and rest:
            yield from _coalesce_direction(scope, head.text, rest)
        else:
            scope.error(
                "N070",
                f"`{' '.join(w.text for w in part)}` is not a way to coalesce",
                head.span,
                "write `adaptive`, `rx 50us`, or `rx 50us 64 frames`",
            )


def _coalesce_direction(scope: Scope, direction: str, words: tuple[syntax.Word, ...]) -> Iterator[tuple[str, Value]]:
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if rest and rest[0].text in ("frames", "frame"):
            rest.pop(0)
            yield from _number(
                scope, f"{direction}-frames", word, lambda text: units.count(text, "a number of frames", 0, _MOST)
            )
        else:
            yield from _number(scope, f"{direction}-usecs", word, _microseconds)


def _microseconds(text: str) -> int:
    time = 0 if text in ("0", "0us") else units.duration(text)
    if time % 1000 or time // 1000 > _MOST:
        raise LiteralError(
            "N031", f"`{text}` is not a whole number of microseconds", "NICs count in microseconds: 50us"
        )
    return time // 1000


def _sysctl(scope: Scope, item: syntax.Knobs) -> Iterator[tuple[str, Value]]:
    key, *values = item.parts[0]
    if not _SYSCTL.fullmatch(key.text) or ".." in key.text:
        scope.error(
            "N071",
            f"netc does not set `{key.text}`",
            key.span,
            "it sets what lies under net, written with dots: net.ipv4.tcp_rmem",
        )
        return
    parsed = tuple(_sysctl_value(word) for value in values for word in scope.expand(value))
    yield key.text, parsed[0] if len(parsed) == 1 else parsed


def _sysctl_value(word: syntax.Word) -> int | str:
    return int(word.text) if re.fullmatch(r"-?[0-9]{1,18}", word.text) else word.text


_KINDS: dict[str, Callable[[Scope, syntax.Knobs], Iterator[tuple[str, Value]]]] = {
    "ring": _ring, "offload": _offload, "priv-flag": _offload, "pause": _pause, "coalesce": _coalesce, "sysctl": _sysctl,
}  # fmt: skip
