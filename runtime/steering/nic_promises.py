"""Where a NIC has to put a flow: by its flow rules, its RSS contexts, and its own RSS, as they were read from the device and the policy.

The hash is computed as the device does it (compiler.tables.toeplitz). Where it cannot be, because the device shows no key, another function or no
fields, what is promised is one of the table's queues.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Mapping
from typing import NamedTuple

from compiler.bundle import Bundle, Setting
from compiler.tables import toeplitz
from runtime.backends import ethtool_ioctl, sysfs
from runtime.context import Context, Device
from runtime.knobs import Refusal, knob
from runtime.knobs.contexts import Contexts
from runtime.steering.flows import Flow

_GROUPS = ("rss", "hash", "rss-context", "ntuple")  # settings that say where a NIC puts flows
_TOEPLITZ = (0, 1)  # ETH_RSS_HASH_TOP, or not told
_KEY_OF_THE_KERNEL = "sys/net/core/netdev_rss_key"  # what drivers fill their key with that show none (netdev_rss_key_fill)


class Promise(NamedTuple):
    """what: the policy's words, with place in its file. kind: queue or cpu. allowed: numbers, none for what has to be dropped. why: why it is not one number."""

    what: str
    place: str
    kind: str
    allowed: frozenset[int]
    why: str = ""


class Hash(NamedTuple):
    """One RSS context as the device says it is. fields: by flow type, None where it does not say."""

    table: tuple[int, ...]
    key: bytes
    transform: str
    fields: Mapping[str, tuple[str, ...] | None]


class NicPromises:
    """What the NIC was told for one nic of the policy. Reads the device once. Raises OSError, Refusal where it cannot be read."""

    def __init__(self, context: Context, bundle: Bundle, device: Device) -> None:
        mine = [setting for setting in bundle.settings if setting.nic == device.nic and setting.group in _GROUPS and holds(context, setting)]
        mine.sort(key=lambda setting: _GROUPS.index(setting.group))
        self._device, self._contexts = device, Contexts(context.state, device)
        self._spread = next((setting for setting in mine if setting.group in ("rss", "hash")), None)
        self._rules = [setting for setting in mine if setting.group == "ntuple"]
        named = {setting.key: setting for setting in mine if setting.group == "rss-context"}
        self._named = {name: (setting, self._hash(self._contexts.number(name))) for name, setting in named.items() if self._contexts.number(name)}
        self._own = self._hash(0) if self._spread is not None and self._has_rss() else None

    def of(self, flow: Flow) -> Promise | None:
        """Where this flow comes; None where the policy tells the NIC nothing about it."""
        for rule in self._rules:
            words = rule.value if isinstance(rule.value, tuple) else ()
            if matches(words, flow):
                return self._by_rule(rule, dict(zip(words[1::2], words[2::2], strict=True)), flow)
        if self._own is None or self._spread is None:
            return None
        return Promise(said(self._spread), place(self._spread), "queue", *predicted(self._own, flow))

    def by_device(self, flow: Flow) -> tuple[frozenset[int], str]:
        """Where the device's own RSS puts a flow that the policy leaves to it, and why that is not one queue. Raises OSError."""
        return predicted(self._own or self._hash(0), flow)

    def every(self) -> Iterator[tuple[str, str]]:
        """What is promised at all: words and place, for what has no traffic."""
        for setting in [*self._rules, *([self._spread] if self._own is not None and self._spread is not None else [])]:
            yield said(setting), place(setting)

    def _by_rule(self, rule: Setting, target: dict[int | str, int | str], flow: Flow) -> Promise | None:
        if "context" in target:
            made = self._named.get(str(target["context"]))
            return Promise(said(rule), place(rule), "queue", *predicted(made[1], flow)) if made else None
        action = int(target["action"])
        return Promise(said(rule), place(rule), "queue", frozenset() if action == -1 else frozenset({action}))

    def _has_rss(self) -> bool:
        try:
            return len(ethtool_ioctl.rss(self._device.name).table) > 1
        except OSError:
            return False

    def _hash(self, context: int) -> Hash:
        found = ethtool_ioctl.rss(self._device.name, context)
        key = found.key if any(found.key) else ethtool_ioctl.rss(self._device.name).key if context else b""
        transform = {1: "symmetric-xor", 2: "symmetric-or-xor"}.get(found.transform, "")
        fields = {flow: _fields(self._device.name, flow, context) for flow in ethtool_ioctl.FLOW_TYPES}
        return Hash(found.table, (key or _kernel_key()) if found.function in _TOEPLITZ else b"", transform, fields)


def predicted(rss: Hash, flow: Flow) -> tuple[frozenset[int], str]:
    """The queues that a flow may come to, and why they are several; "" for exactly one."""
    every = frozenset(rss.table)
    fields = rss.fields.get(flow.kind)
    if not rss.key:
        return every, "the device shows no Toeplitz key"
    if not fields:
        return every, f"the device does not say what it hashes of {flow.kind}"
    try:
        return frozenset({toeplitz.queue(rss.key, rss.table, flow.src, flow.dst, flow.sport, flow.dport, fields, rss.transform)}), ""
    except ValueError as error:
        return every, str(error)


def matches(words: tuple[int | str, ...], flow: Flow) -> bool:
    """Does a flow rule, in ethtool's words, take this flow?"""
    pairs = dict(zip(words[1::2], words[2::2], strict=True))
    if words[0] != flow.kind:
        return False
    ports = (("src-port", flow.sport), ("dst-port", flow.dport))
    addresses = (("src-ip", flow.src), ("dst-ip", flow.dst))
    return all(name not in pairs or int(pairs[name]) == port for name, port in ports) and all(
        name not in pairs or ipaddress.ip_address(address) in ipaddress.ip_network(str(pairs[name])) for name, address in addresses
    )


def holds(context: Context, setting: Setting) -> bool:
    """Whether a setting is in force. A preferred one may have been refused: then nothing is promised."""
    if not setting.prefer:
        return True
    try:
        turn = knob(context, setting)
        return turn.read() == turn.resolve(setting.value)
    except Refusal:
        return False


def said(setting: Setting) -> str:
    return setting.text or f"{setting.group} {setting.key}"


def place(setting: Setting) -> str:
    return f"{setting.file}:{setting.line}"


def _fields(device: str, flow: str, context: int) -> tuple[str, ...] | None:
    for number in dict.fromkeys((context, 0)):
        try:
            return ethtool_ioctl.hash_fields(device, flow, number)
        except OSError:
            continue
    return None


def _kernel_key() -> bytes:
    """b"" where it cannot be read: it is the first network namespace's, and root's."""
    try:
        return bytes.fromhex(sysfs.read_proc(_KEY_OF_THE_KERNEL).replace(":", ""))
    except (OSError, ValueError):
        return b""


