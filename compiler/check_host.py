"""`host` blocks → ir.Setting: sysctls, and the few that netc computes or knows by a shorter name."""

from __future__ import annotations

import re
from collections.abc import Callable

from compiler import buffers, syntax, units
from compiler.findings import LiteralError
from compiler.knob_values import Found, bare_microseconds, number, wrong_name
from compiler.scope import Scope

_SYSCTL = re.compile(r"net(\.[A-Za-z0-9_/-]+)+")
_INT = (1 << 31) - 1
NAPI: dict[str, tuple[str, Callable[[str], int]]] = {  # what one round of the softirq may do, and what waits for it
    "budget": ("net.core.netdev_budget", lambda text: units.count(text, "a number of packets", 1, _INT)),
    "budget-usecs": ("net.core.netdev_budget_usecs", bare_microseconds),
    "weight": ("net.core.dev_weight", lambda text: units.count(text, "a number of packets", 1, _INT)),
    "backlog": ("net.core.netdev_max_backlog", lambda text: units.count(text, "a number of packets", 1, _INT)),
}
OF_A_NIC = ("gro-flush-timeout", "defer-hard-irqs", "irq-suspend-timeout", "threaded")
_CONNTRACK = {"max": "net.netfilter.nf_conntrack_max", "buckets": "net.netfilter.nf_conntrack_buckets"}


def _sysctl(scope: Scope, item: syntax.Knobs) -> Found:
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
    yield "sysctl", key.text, parsed[0] if len(parsed) == 1 else parsed


def _sysctl_value(word: syntax.Word) -> int | str:
    return int(word.text) if re.fullmatch(r"-?[0-9]{1,18}", word.text) else word.text


def _buffers(scope: Scope, item: syntax.Knobs) -> Found:
    rate, delay = map(scope.single, item.parts[0])
    try:
        bits = units.bit_rate(rate.text)
    except LiteralError as error:
        scope.findings.literal(error, rate.span)
        return
    try:
        product = buffers.product(bits, units.duration(delay.text))
    except LiteralError as error:
        scope.findings.literal(error, delay.span)
        return
    for key, value in buffers.sizes(product).items():
        yield "buffers", key, value


def _napi(scope: Scope, item: syntax.Knobs) -> Found:
    for name, value in item.parts:
        if name.text in NAPI:
            key, parse = NAPI[name.text]
            yield from number(scope, "sysctl", key, value, parse)
        else:
            help = f"each nic has its own: tune NIC {{ napi {name.text} {value.text} }}" if name.text in OF_A_NIC else ""
            wrong_name(scope, f"the host has no NAPI `{name.text}`", name, NAPI, help)


def _conntrack(scope: Scope, item: syntax.Knobs) -> Found:
    """`max 1M`: as many buckets as connections, as the kernel itself sizes them, unless `buckets` says otherwise."""
    found: dict[str, int] = {}
    for name, value in item.parts:
        if name.text not in _CONNTRACK:
            wrong_name(scope, f"connection tracking has no `{name.text}`", name, _CONNTRACK)
            return
        if name.text in found:
            scope.error("N053", f"`conntrack {name.text}` is set twice", name.span, "keep one")
        for _, _, parsed in number(scope, "sysctl", name.text, value, lambda text: units.count(text, "a number of connections", 1, _INT)):
            found[name.text] = parsed
    if "max" in found:
        found.setdefault("buckets", found["max"])
    for what in ("buckets", "max"):
        if what in found:
            yield "sysctl", _CONNTRACK[what], found[what]


KINDS: dict[str, Callable[[Scope, syntax.Knobs], Found]] = {"sysctl": _sysctl, "buffers": _buffers, "napi": _napi, "conntrack": _conntrack}
