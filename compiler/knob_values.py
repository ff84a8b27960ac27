"""What the values of knobs can be written like: numbers, times that the kernel counts in µs or ns, switches. Shared by `tune` and `host`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from compiler import syntax, units
from compiler.findings import LiteralError
from compiler.scope import Scope
from compiler.suggest import hint

MOST = (1 << 32) - 1
SWITCH = {"on": 1, "off": 0}
Value = int | str | tuple[int | str, ...]
Found = Iterator[tuple[str, str, Value]]  # group, key and value of an ir.Setting


def number(scope: Scope, group: str, key: str, value: syntax.Word, parse: Callable[[str], int]) -> Iterator[tuple[str, str, int]]:
    """One number; what `parse` refuses is a finding at the word. Nothing of more than 32 bits."""
    word = scope.single(value)
    try:
        parsed = parse(word.text)
        if parsed > MOST:
            raise LiteralError("N031", f"`{word.text}` is more than `{key}` can be", f"the kernel counts in 32 bits: at most {MOST}")
        yield group, key, parsed
    except LiteralError as error:
        scope.findings.literal(error, word.span)


def switch(scope: Scope, group: str, key: str, value: syntax.Word, values: Mapping[str, int] = SWITCH) -> Iterator[tuple[str, str, int]]:
    """on or off, as the kernel numbers them."""
    word = scope.single(value)
    if word.text in values:
        yield group, key, values[word.text]
    else:
        scope.error("N070", f"`{word.text}` is neither on nor off", word.span, "write `on` or `off`")


def wrong_name(scope: Scope, message: str, name: syntax.Word, known: Iterable[str], help: str = "") -> None:
    """A knob that there is not (N070), with the one that was likely meant."""
    scope.error("N070", message, name.span, help or hint(name.text, known))


def microseconds(text: str) -> int:
    """`50us`; 0 is none. Raises LiteralError."""
    return _whole(text, 1000, "microseconds", "50us")


def bare_microseconds(text: str) -> int:
    """For knobs that have their unit in their name: `rx-usecs 50`, and `rx-usecs 50us` as well. Raises LiteralError."""
    return int(text) if text.isdecimal() and len(text) < 12 else microseconds(text)


def nanoseconds(text: str) -> int:
    """`20us`; 0 is none. Raises LiteralError."""
    return _whole(text, 1, "nanoseconds", "20us")


def _whole(text: str, unit: int, name: str, example: str) -> int:
    time = 0 if text.rstrip("nums") == "0" else units.duration(text)
    who = "NICs count in" if unit == 1000 else "the kernel counts in"
    if time % unit:
        raise LiteralError("N031", f"`{text}` is not a whole number of {name}", f"{who} {name}: {example}")
    if time // unit > MOST:
        raise LiteralError("N031", f"`{text}` is longer than can be set", f"{who} {name}, in 32 bits: at most {MOST * unit / 10**9:.3g}s")
    return time // unit
