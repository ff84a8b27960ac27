"""`limit` and `over` → ir.Limit: rates in packets a second become GCRA intervals in ticks of 1/64 ns."""

from __future__ import annotations

import re

from compiler import ir, syntax, units
from compiler.findings import LiteralError
from compiler.ir import Field
from compiler.scope import Scope

MAX_SIZE = 1 << 20  # buckets of their own
MAX_BURST = 1 << 32  # packets
_LEAST_BURST = 5  # packets: a rate of 20pps should let a handful through at once
_PER = re.compile(r"(src|dst)(?:/([0-9]{1,3}))?")
_MAX_SPAN = 1 << 62  # ticks that a full bucket may be worth, so that 64-bit sums never wrap


def lower(scope: Scope, node: syntax.Limit, counter: str) -> ir.Limit | None:
    """The limit of the rule whose counter is `counter`; None with findings."""
    errors = scope.findings.errors
    options = _options(scope, node)
    rate = scope.single(node.rate)
    try:
        packets = units.packet_rate(rate.text)
    except LiteralError as error:
        scope.findings.literal(error, rate.span)
        return None
    interval = max(1, round(ir.TICKS_PER_NS * 10**9 / packets))
    burst = max(_LEAST_BURST, int(packets / 10))
    if "burst" in options:
        burst = _count(scope, options["burst"][0], "a burst in packets", MAX_BURST)
    size = _count(scope, options["size"][0], "a number of buckets", MAX_SIZE) if "size" in options else 65536
    per, v4, v6 = _per(scope, options["per"]) if "per" in options else (None, 32, 64)
    if "size" in options and per is None:
        scope.error(
            "N044",
            "`size` is the number of sources with a bucket of their own",
            options["size"][0].span,
            "write `per src` before it, or leave `size` out",
        )
    if burst * interval > _MAX_SPAN:
        scope.error(
            "N044", f"a burst of {burst} packets at {rate.text} takes years to fill", node.span, "write a smaller burst"
        )
    if scope.findings.errors != errors:
        return None
    return ir.Limit(counter, interval, burst, node.over, per, v4, v6, size)


def _options(scope: Scope, node: syntax.Limit) -> dict[str, tuple[syntax.Word, ...]]:
    found: dict[str, tuple[syntax.Word, ...]] = {}
    for key, words, span in node.options:
        if key in found:
            scope.error("N021", f"`{key}` is written twice", span, "write it once")
        found.setdefault(key, words)
    return found


def _count(scope: Scope, word: syntax.Word, what: str, most: int) -> int:
    value = scope.single(word)
    try:
        return units.count(value.text, what, 1, most)
    except LiteralError as error:
        scope.findings.literal(error, value.span)
        return 1


def _per(scope: Scope, words: tuple[syntax.Word, ...]) -> tuple[Field | None, int, int]:
    """`src`, `dst/24`, `src/24,/48`: the field and the prefix lengths of both families."""
    match = _PER.fullmatch(words[0].text)
    if not match:
        scope.error(
            "N044",
            f"`{words[0].text}` is not what a limit can be kept for",
            words[0].span,
            "write `per src`, `per dst`, or with prefix lengths for IPv4 and IPv6: `per src/24,/48`",
        )
        return None, 32, 64
    v4, v6 = int(match[2] or 32), 64
    if len(words) > 1:
        second = re.fullmatch(r"/([0-9]{1,3})", words[1].text)
        if not second:
            scope.error(
                "N044",
                f"`{words[1].text}` is not a prefix length",
                words[1].span,
                "write both lengths: `per src/24,/48`",
            )
            return None, 32, 64
        v6 = int(second[1])
    for value, most, word in ((v4, 32, words[0]), (v6, 128, words[-1])):
        if not 1 <= value <= most:
            scope.error(
                "N031", f"/{value} is not a prefix length to limit by", word.span, f"it is a number from 1 to {most}"
            )
    return Field.SRC if match[1] == "src" else Field.DST, v4, v6
