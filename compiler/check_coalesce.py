"""`coalesce` of a tune block: the short forms for people, and every knob by ethtool's own name."""

from __future__ import annotations

from compiler import syntax, units
from compiler.knob_values import MOST, SWITCH, Found, bare_microseconds, microseconds, number, switch, wrong_name
from compiler.scope import Scope

_USECS = (
    "rx-usecs", "rx-usecs-irq", "tx-usecs", "tx-usecs-irq", "stats-block-usecs", "rx-usecs-low", "tx-usecs-low", "rx-usecs-high", "tx-usecs-high",
    "tx-aggr-time-usecs",
)  # fmt: skip
_COUNTS = (
    "rx-frames", "rx-frames-irq", "tx-frames", "tx-frames-irq", "rx-frames-low", "tx-frames-low", "rx-frames-high", "tx-frames-high", "pkt-rate-low",
    "pkt-rate-high", "sample-interval", "tx-aggr-max-frames",
)  # fmt: skip
_BYTES = ("tx-aggr-max-bytes",)
_SWITCHES = ("adaptive-rx", "adaptive-tx", "cqe-mode-rx", "cqe-mode-tx")
NAMES = (*_USECS, *_COUNTS, *_BYTES, *_SWITCHES)
_ALSO = {f"{way}-frame-{rate}": f"{way}-frames-{rate}" for way in ("rx", "tx") for rate in ("low", "high")}  # as ethtool(8) spells them


def coalesce(scope: Scope, item: syntax.Knobs) -> Found:
    """`adaptive`, `adaptive off`, `rx 50us`, `rx 50us 64 frames`, `adaptive-rx on`, `rx-usecs-irq 20`."""
    for part in item.parts:
        head, rest = part[0], part[1:]
        if head.text == "adaptive" and len(rest) <= 1:
            yield from _adaptive(scope, rest)
        elif head.text in ("rx", "tx") and rest:
            yield from _direction(scope, head.text, rest)
        elif len(rest) == 1 and head.text in (*NAMES, *_ALSO):
            yield from _named(scope, _ALSO.get(head.text, head.text), rest[0])
        elif len(rest) == 1:
            wrong_name(scope, f"there is no `{head.text}` to coalesce by", head, (*NAMES, "rx", "tx", "adaptive"), _few(head.text))
        else:
            words = " ".join(word.text for word in part)
            scope.error("N070", f"`{words}` is not a way to coalesce", head.span, "write `adaptive`, `rx 50us`, or `rx 50us 64 frames`")


def _few(word: str) -> str:
    from compiler.suggest import closest

    return "" if closest(word, NAMES) else "write `adaptive`, `rx 50us 64 frames`, or a name of ethtool -C: `rx-usecs-irq 20`"


def _adaptive(scope: Scope, rest: tuple[syntax.Word, ...]) -> Found:
    on = SWITCH.get(rest[0].text if rest else "on")
    if on is None:
        scope.error("N070", f"`{rest[0].text}` is neither on nor off", rest[0].span, "write `adaptive` or `adaptive off`")
        return
    yield "coalesce", "adaptive-rx", on
    yield "coalesce", "adaptive-tx", on


def _direction(scope: Scope, direction: str, words: tuple[syntax.Word, ...]) -> Found:
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if rest and rest[0].text in ("frames", "frame"):
            rest.pop(0)
            yield from _named(scope, f"{direction}-frames", word)
        else:
            yield from number(scope, "coalesce", f"{direction}-usecs", word, microseconds)


def _named(scope: Scope, key: str, value: syntax.Word) -> Found:
    if key in _SWITCHES:
        yield from switch(scope, "coalesce", key, value)
    elif key in _USECS:
        yield from number(scope, "coalesce", key, value, bare_microseconds)
    elif key in _BYTES:
        yield from number(scope, "coalesce", key, value, units.size)
    else:
        what = "a number of frames" if "frames" in key else "a number"
        yield from number(scope, "coalesce", key, value, lambda text: units.count(text, what, 0, MOST))
