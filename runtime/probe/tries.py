"""What the NIC can be asked only by doing it: hash fields written as they are, RSS contexts, and flow rules that no packet can match.

Everything is taken off again before the signals that end netc are let through; what a SIGKILL leaves does nothing (a context that no rule names, a rule
for a flow between documentation networks, RFC 5737 and 3849) and the next try takes the rules away: they are known by their flow.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import NamedTuple

from runtime.backends import ethtool_ioctl, rss_contexts
from runtime.backends.ethtool_ioctl import FlowRule, Rss
from runtime.probe.asking import refusal

_MOST_CONTEXTS = 32  # more than any policy names; enough to know
_FLOW_4 = ("src-ip", "192.0.2.1/32", "dst-ip", "198.51.100.1/32")
_FLOW_6 = ("src-ip", "2001:db8::1/128", "dst-ip", "2001:db8::2/128")
_PORTS = ("src-port", 9, "dst-port", 9)  # discard
_DROP = -1


class Tried(NamedTuple):
    """fields: the hash's fields can be set. contexts: how many there are and could be made. kinds: the flow types that a rule was taken for. drop: a rule may drop.

    rules_name_contexts: a rule may name a context. words: what was asked and what the device said.
    """

    fields: bool = False
    contexts: int = 0
    kinds: tuple[str, ...] = ()
    drop: bool = False
    rules_name_contexts: bool = False
    words: Mapping[str, str] = {}


def on(device: str, rss: Rss | None, fields: Mapping[str, tuple[str, ...]], table: int) -> Tried:
    """Try everything on one device."""
    words: dict[str, str] = {}
    there = 0
    with suppress(OSError):
        there = len(rss_contexts.numbers(device)) if rss and rss.table else 0
    with _held_signals():
        settable = _fields(device, fields, words)
        contexts = _contexts(device, rss, words) if rss and rss.table else []
        try:
            kinds, drop, named = _rules(device, contexts[0] if contexts else 0, words) if table else ((), False, False)
        finally:
            _forget_contexts(device, contexts, words)
    return Tried(settable, there + len(contexts), kinds, drop, named, words)


@contextmanager
def _held_signals() -> Iterator[None]:
    """Ctrl-C and its like wait until everything is taken off."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _fields(device: str, fields: Mapping[str, tuple[str, ...]], words: dict[str, str]) -> bool:
    """Write back what the hash covers: nothing changes, and a device that cannot be told says so."""
    flow, now = next(((flow, now) for flow, now in fields.items() if now), ("", ()))
    if not flow:  # e1000e shows that it hashes by nothing, and takes that back without a complaint
        return False
    try:
        ethtool_ioctl.set_hash_fields(device, flow, now)
    except OSError as error:
        words["hash-fields"] = f"{flow}: {refusal(error)}"
        return False
    words["hash-fields"] = f"{flow}: written as they are"
    return True


def _contexts(device: str, rss: Rss, words: dict[str, str]) -> list[int]:
    """As many RSS contexts as the device makes; each with the table of the main one."""
    made: list[int] = []
    words["rss-contexts"] = f"{_MOST_CONTEXTS} made, and not asked for more"
    for _ in range(_MOST_CONTEXTS):
        try:
            made.append(rss_contexts.create(device, rss.table, b""))
        except OSError as error:
            words["rss-contexts"] = f"{len(made)} made, then: {refusal(error)}"
            break
    return made


def _forget_contexts(device: str, contexts: list[int], words: dict[str, str]) -> None:
    for context in reversed(contexts):
        try:
            rss_contexts.delete(device, context)
        except OSError as error:
            words[f"rss-context {context}"] = f"made, and not taken away again: {refusal(error)}; take it away with: ethtool -X {device} context {context} delete"


def _rules(device: str, context: int, words: dict[str, str]) -> tuple[tuple[str, ...], bool, bool]:
    """The flow types that are taken, whether a rule may drop, and whether it may name a context."""
    _sweep(device)
    kinds = tuple(kind for kind in ethtool_ioctl.FLOW_TYPES if _takes(device, kind, kind, ("action", 0), 0, words))
    if not kinds:
        return (), False, False
    drop = _takes(device, "drop", kinds[0], ("action", _DROP), 0, words)
    named = bool(context) and _takes(device, "rule-with-context", kinds[0], ("context", context), context, words)
    return kinds, drop, named


def _takes(device: str, name: str, kind: str, action: tuple[str | int, ...], context: int, words: dict[str, str]) -> bool:
    """Whether the NIC takes such a rule; it is taken off at once."""
    rule = FlowRule(ethtool_ioctl.flow_spec(_flow(kind) + action), context)
    try:
        location = ethtool_ioctl.add_flow_rule(device, rule)
    except OSError as error:
        words[f"ntuple {name}"] = refusal(error)
        return False
    words[f"ntuple {name}"] = "taken"
    try:
        ethtool_ioctl.delete_flow_rule(device, location)
    except OSError as error:
        words[f"ntuple {name}"] = f"taken, and not given back: {refusal(error)}; take it off with: ethtool -N {device} delete {location}"
    return True


def _flow(kind: str) -> tuple[str | int, ...]:
    return (kind, *(_FLOW_4 if kind.endswith("4") else _FLOW_6), *_PORTS)


def _sweep(device: str) -> None:
    """Take off what a try that was killed has left."""
    ours = {_says(FlowRule(ethtool_ioctl.flow_spec(_flow(kind) + ("action", 0)))) for kind in ethtool_ioctl.FLOW_TYPES}
    with suppress(OSError):
        for location, rule in ethtool_ioctl.flow_rules(device).items():
            if _says(rule) in ours:
                ethtool_ioctl.delete_flow_rule(device, location)


def _says(rule: FlowRule) -> bytes:
    """The rule's addresses and ports: struct ethtool_rx_flow_spec between the flow type and the action (ring_cookie)."""
    return rule.spec[4:148]
