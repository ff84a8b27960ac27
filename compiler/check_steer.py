"""`steer` blocks → ir.Steer and the settings of queues and hashing."""

from __future__ import annotations

import re

from compiler import ir, rule_names, syntax, units
from compiler.findings import LiteralError
from compiler.predicates import condition
from compiler.scope import Scope
from compiler.source import Span
from compiler.suggest import hint
from compiler.types import ValueType, numbers

_CPUS = ValueType("a CPU", ir.Field.PROTO, numbers("a CPU", 255))
_QUEUES = ValueType("a queue", ir.Field.PROTO, numbers("a queue", 4095))
_HASHED = ("tcp", "udp", "sctp")
_HASH_FIELDS = {"addresses": ("src-ip", "dst-ip"), "ports": ("src-port", "dst-port")}
_KEY = re.compile(r"([0-9a-f]{2})+|[0-9a-f]{2}(:[0-9a-f]{2})+", re.IGNORECASE)
_KEY_SIZES = (16, 256)  # bytes; a flow of IPv6 with ports takes 40


def steers(scope: Scope, blocks: list[syntax.Steer]) -> tuple[tuple[ir.Steer, ...], tuple[ir.Setting, ...]]:
    """Every steering list, one a nic, and the settings that stand among them."""
    found: dict[str, ir.Steer] = {}
    settings: list[ir.Setting] = []
    for block in blocks:
        nic = scope.nic(block.nic)
        if nic is None:
            continue
        steer = _Steer(scope, block, nic.name)
        made = steer.lower()
        if nic.name in found:
            scope.error(
                "N042",
                f"there are two `steer {nic.name}` blocks",
                block.span,
                "put the rules into one: the order decides",
                ((found[nic.name].span, "the first one"),),
            )
        found.setdefault(nic.name, made)
        settings += steer.settings
    return tuple(found.values()), tuple(settings)


_MOST_FLOWS = 1 << 24  # entries of a table in kernel memory
_Statement = syntax.SteerQueues | syntax.SteerHash | syntax.SteerCpus | syntax.SteerFlows


class _Steer:
    """One steering list while it is made. queues: how many the policy asks for, None when it does not say."""

    def __init__(self, scope: Scope, block: syntax.Steer, nic: str) -> None:
        self.scope, self.block, self.nic = scope, block, nic
        self.settings: list[ir.Setting] = []
        self.rules: list[ir.SteerRule] = []
        self.names: dict[str, Span] = {}
        self.default: tuple[ir.Target, Span] | None = None
        self.prefer = False  # the default is only preferred
        self.queues: tuple[int, Span] | None = None

    def lower(self) -> ir.Steer:
        for item in self.block.items:
            if isinstance(item, syntax.SteerQueues):
                self._queues(item)
        for item in self.block.items:
            self._item(item)
        default = self.default[0] if self.default else None
        return ir.Steer(f"{self.nic}.steer", self.nic, tuple(self.rules), default, self.block.span, self.prefer)

    def _item(self, item: object) -> None:
        if isinstance(item, syntax.SteerHash):
            self._hash(item)
        elif isinstance(item, syntax.SteerCpus):
            if cpus := self._in_order(item.cpus) if item.kind == "xps" else self._numbers(item.cpus, _CPUS):
                self._set(item, item.kind, "cpus", cpus)
        elif isinstance(item, syntax.SteerFlows):
            self._flows(item)
        elif isinstance(item, syntax.SteerRule) and self.default is not None:
            self.scope.error(
                "N041",
                "nothing gets here: the default above has decided",
                item.span,
                "put `default` last",
                ((self.default[1], "this takes every packet"),),
            )
        elif isinstance(item, syntax.SteerRule):
            self._rule(item)
        elif isinstance(item, syntax.SteerDefault) and self.default is not None:
            self.scope.error(
                "N041", "there is a default already", item.span, "keep one", ((self.default[1], "the first one"),)
            )
        elif isinstance(item, syntax.SteerDefault):
            target = self._target(item.target) or ir.Target("queues", (0,))
            self._check_drop(target, item)
            self.default, self.prefer = (target, item.span), item.prefer

    def _rule(self, node: syntax.SteerRule) -> None:
        if node.name is not None and not self.scope.good_name(node.name, "a steer rule"):
            return
        errors = self.scope.findings.errors
        when = condition(self.scope, node.when)
        if errors == self.scope.findings.errors and contains_connection(when):
            self.scope.error(
                "N050",
                "steering comes before connection tracking: it cannot ask for a connection's state",
                node.when.span,
                "write addresses, ports or protocols",
            )
        target = self._target(node.target)
        name = node.name.text if node.name else rule_names.from_text(node.match_text)
        place = node.name.span if node.name else node.span
        if name in self.names:
            self.scope.error(
                "N021" if node.name else "N023",
                f"two steer rules get the name `{name}`",
                place,
                "the second never matches when they are the same; else name one: `as NAME`",
                ((self.names[name], "the first one"),),
            )
            return
        self.names[name] = place
        if target:
            self._check_drop(target, node)
            self.rules.append(ir.SteerRule(name, when, target, node.prefer, node.text, node.span))

    def _check_drop(self, target: ir.Target, node: syntax.SteerRule | syntax.SteerDefault) -> None:
        if target.kind == "drop" and node.prefer:
            self.scope.error("N054", "a drop cannot be preferred: the packet is dropped, or it is not", node.span, "leave `prefer` out")

    def _target(self, node: syntax.Target) -> ir.Target | None:
        if node.kind == "drop":
            return ir.Target("drop")
        if node.kind == "nic":
            return self._nic_target(node)
        if node.kind == "socket":
            return (
                ir.Target("socket", name=node.words[0].text)
                if self.scope.good_name(node.words[0], "a socket")
                else None
            )
        queues = node.kind in ("queue", "queues")
        listed = self._numbers(node.words, _QUEUES if queues else _CPUS)
        if not listed:
            return None
        if queues and self.queues and listed[-1] >= self.queues[0]:
            self.scope.error(
                "N051",
                f"there is no queue {listed[-1]}",
                node.span,
                f"`queues {self.queues[0]}` makes the queues 0 to {self.queues[0] - 1}",
                ((self.queues[1], "the number of queues"),),
            )
        return ir.Target("queues" if queues else "cpus", listed)

    def _nic_target(self, node: syntax.Target) -> ir.Target | None:
        nic = self.scope.nic(node.words[0])
        if nic is None:
            return None
        if not node.routed:
            self.scope.error(
                "N052",
                "`to nic` needs to know how the packet finds its way",
                node.span,
                f"write `to nic {nic.name} routed`: by the host's routing table",
            )
        elif nic.name == self.nic:
            self.scope.error(
                "N052", "this sends packets out by the nic that they came in by", node.span, "name another nic"
            )
        return ir.Target("nic", name=nic.name)

    def _numbers(self, words: tuple[syntax.Word, ...], type: ValueType) -> tuple[int, ...]:
        ranges = self.scope.ranges(words, type)
        return tuple(number for low, high in ranges or () for number in range(low, high + 1))

    def _in_order(self, words: tuple[syntax.Word, ...]) -> tuple[int, ...]:
        """CPUs as they are written, the first for queue 0: `1, 0` is not `0-1`, and one may serve several queues."""
        return tuple(cpu for word in words for cpu in self._numbers((word,), _CPUS))

    def _queues(self, node: syntax.SteerQueues) -> None:
        """`queues 8 on cpus 0-7`: channels, and for IRQs and XPS the CPUs, in the order of the queues."""
        word = self.scope.single(node.count)
        try:
            count = units.count(word.text, "a number of queues", 1, 4096)
        except LiteralError as error:
            self.scope.findings.literal(error, word.span)
            return
        if self.queues:
            self.scope.error(
                "N053",
                "the number of queues is said twice",
                node.span,
                "keep one",
                ((self.queues[1], "the first one"),),
            )
            return
        self.queues = count, node.span
        self._set(node, "channels", "combined", count)
        if cpus := self._in_order(node.cpus):
            self._set(node, "irq", "cpus", cpus)
            self._set(node, "xps", "cpus", cpus)

    def _hash(self, node: syntax.SteerHash) -> None:
        """`hash tcp, udp by addresses, ports symmetric`: the RSS fields of each flow type."""
        fields: list[str] = []
        for word in node.fields:
            if word.text not in _HASH_FIELDS:
                self.scope.error(
                    "N053", f"a hash cannot be made over `{word.text}`", word.span, hint(word.text, _HASH_FIELDS)
                )
            fields += _HASH_FIELDS.get(word.text, ())
        for word in node.protocols:
            if word.text not in _HASHED:
                self.scope.error("N053", f"there is no hash for `{word.text}`", word.span, hint(word.text, _HASHED))
                continue
            for family in "46":
                self._set(node, "hash", word.text + family, tuple(fields))
        if node.symmetric and node.key:
            self.scope.error("N053", "`symmetric` sets the key itself", node.key.span, "keep `symmetric` or `key`")
        elif node.symmetric:
            self._set(node, "hash", "symmetric", 1)
        elif node.key:
            self._key(node, self.scope.single(node.key))

    def _key(self, node: syntax.SteerHash, word: syntax.Word) -> None:
        """`key 6d5a...`: the RSS hash key, in the digits that ethtool -x prints, with colons or without."""
        least, most = _KEY_SIZES
        if word.text == "random":
            help = "leave `key` out: drivers draw a random one when the machine starts"
            self.scope.error("N053", "a policy says which key, not that there is one", word.span, help)
        elif not _KEY.fullmatch(word.text) or not least <= len(word.text.replace(":", "")) // 2 <= most:
            help = f"write {least} to {most} bytes in hexadecimal digits, as many as the key has that `ethtool -x` shows"
            self.scope.error("N033", f"`{word.text[:40]}` is not a hash key", word.span, help)
        else:
            self._set(node, "hash", "key", word.text.replace(":", "").lower())

    def _flows(self, node: syntax.SteerFlows) -> None:
        """`rfs flows 32k`: how many flows the kernel remembers the CPU of."""
        word = self.scope.single(node.count)
        try:
            self._set(node, "rfs", "flows", units.count(word.text, "a number of flows", 1, _MOST_FLOWS))
        except LiteralError as error:
            self.scope.findings.literal(error, word.span)

    def _set(self, node: _Statement, group: str, key: str, value: int | str | tuple[int | str, ...]) -> None:
        self.settings.append(ir.Setting(self.nic, group, key, value, node.prefer, node.text, node.span))


_PLAIN = (ir.Within, ir.Is, ir.Member, ir.Bits, ir.Const)


def contains_connection(expr: ir.Expr) -> bool:
    """Whether connection tracking is asked anywhere in it."""
    if isinstance(expr, (ir.And, ir.Or)):
        return any(type(item) not in _PLAIN and contains_connection(item) for item in expr.items)
    return contains_connection(expr.item) if isinstance(expr, ir.Not) else isinstance(expr, ir.Connection)
