"""`shape` blocks → ir.Shape: classes with guarantees that fit, one default a level, queues with known options."""

from __future__ import annotations

from collections.abc import Callable

from compiler import ir, syntax, units
from compiler.check_steer import contains_connection
from compiler.findings import LiteralError
from compiler.predicates import condition
from compiler.scope import Scope
from compiler.source import Span
from compiler.suggest import hint

MAX_DEPTH = 4  # HTB itself ends at 8 levels (TC_HTB_MAXDEPTH)
_MAX_SHARE, _MAX_OVERHEAD = 1000, 256


def _number(text: str) -> int:
    return units.count(text, "a number")


def _packets_or_bytes(text: str) -> int:
    return units.size(text) if text[-1:].isalpha() else _number(text)


def _switch(text: str) -> int:
    if text not in ("on", "off"):
        raise LiteralError("N070", f"`{text}` is neither on nor off", "write `on` or `off`")
    return int(text == "on")


_TIME, _SIZE, _COUNT, _FLAG = units.duration, _packets_or_bytes, _number, _switch
QUEUES: dict[str, dict[str, Callable[[str], int]]] = {  # tc(8): tc-fq_codel(8), tc-fq(8), tc-cake(8), tc-sfq(8), tc-pfifo(8)
    "pfifo": {"limit": _COUNT},
    "bfifo": {"limit": _SIZE},
    "sfq": {"limit": _COUNT, "quantum": _SIZE, "perturb": _TIME},
    "codel": {"limit": _COUNT, "target": _TIME, "interval": _TIME, "ecn": _FLAG},
    "fq_codel": {"limit": _COUNT, "flows": _COUNT, "quantum": _SIZE, "target": _TIME, "interval": _TIME, "ce_threshold": _TIME,
                 "ecn": _FLAG, "memory_limit": _SIZE},
    "fq": {"limit": _COUNT, "flow_limit": _COUNT, "quantum": _SIZE, "initial_quantum": _SIZE},
    "cake": {"rtt": _TIME, "target": _TIME, "memlimit": _SIZE, "nat": _FLAG, "wash": _FLAG, "split-gso": _FLAG},
}  # fmt: skip


def shapes(scope: Scope, blocks: list[syntax.Shape]) -> tuple[ir.Shape, ...]:
    """Every shape of the policy, one a nic and direction."""
    found: dict[str, ir.Shape] = {}
    for block in blocks:
        nic = scope.nic(block.nic)
        rate = _value(scope, block.rate, units.bit_rate)
        overhead = _value(
            scope, block.overhead, lambda text: units.count(text, "an overhead in bytes", 0, _MAX_OVERHEAD)
        )
        classes = _Classes(scope).lower(block.items, rate, block.span, 1)
        if nic is None or rate is None:
            continue
        shape = ir.Shape(
            f"{nic.name}.shape.{block.direction}", nic.name, block.direction, rate, overhead or 0, classes, block.span
        )
        if shape.name in found:
            scope.error(
                "N042",
                f"there are two `shape {nic.name} {block.direction}` blocks",
                block.span,
                "put the classes into one",
                ((found[shape.name].span, "the first one"),),
            )
        found.setdefault(shape.name, shape)
    return tuple(found.values())


def _value(scope: Scope, word: syntax.Word | None, parse: Callable[[str], int]) -> int | None:
    if word is None:
        return None
    single = scope.single(word)
    try:
        return parse(single.text)
    except LiteralError as error:
        scope.findings.literal(error, single.span)
        return None


class _Classes:
    """All classes of one shape: names are unique over all levels."""

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.names: dict[str, Span] = {}

    def lower(self, items: tuple[object, ...], room: int | None, place: Span, depth: int) -> tuple[ir.Class, ...]:
        """The classes among `items`; room: the bit/s that their guarantees may take, None when unknown."""
        found = [self._class(item, room, depth) for item in items if isinstance(item, syntax.Class)]
        broken = any(isinstance(item, syntax.Broken) for item in items)
        defaults = [c for c in found if c.when is None]
        if not defaults and not broken:
            self.scope.error(
                "N060", "no class takes what the others leave", place, "give one class `default` in place of `match`"
            )
        for extra in defaults[1:]:
            self.scope.error(
                "N060", "there are two default classes", extra.span, "keep one", ((defaults[0].span, "the first one"),)
            )
        self._fit(found, room, place)
        return tuple(found)

    def _fit(self, classes: list[ir.Class], room: int | None, place: Span) -> None:
        wanted = sum(map(guaranteed, classes))
        if room is not None and wanted > room:
            notes = tuple((c.span, f"{show_rate(guaranteed(c))}") for c in classes if guaranteed(c))
            self.scope.error(
                "N062",
                f"the classes are promised {show_rate(wanted)}, and have {show_rate(room)}",
                place,
                f"take {show_rate(wanted - room)} off the `min` of one or more",
                notes,
            )

    def _class(self, node: syntax.Class, room: int | None, depth: int) -> ir.Class:
        self.scope.declare(node.name, "a class", self.names)
        if depth > MAX_DEPTH:
            self.scope.error(
                "N005", f"classes nest more than {MAX_DEPTH} deep", node.span, "put the classes side by side"
            )
        items = self._once(node)
        least = _value(self.scope, _word(items, "min"), units.bit_rate)
        most = _value(self.scope, _word(items, "max"), units.bit_rate)
        share = _value(self.scope, _word(items, "share"), lambda text: units.count(text, "a share", 1, _MAX_SHARE))
        self._rates(node, items, least, most, room)
        when = self._match(node, items)
        inner = tuple(item for item in node.items if isinstance(item, syntax.Class))
        bounds = [rate for rate in (least, most, room) if rate is not None]
        classes = (
            self.lower(node.items, bounds[0] if bounds else None, node.span, depth + 1)
            if inner and depth <= MAX_DEPTH
            else ()
        )
        queues, prefer = self._queues(node, items, bool(inner))
        return ir.Class(
            node.name.text,
            when,
            least,
            most,
            share or 1,
            "urgent" in items,
            queues,
            prefer,
            classes,
            node.text,
            node.span,
        )

    def _once(self, node: syntax.Class) -> dict[str, syntax.ClassItem]:
        found: dict[str, syntax.ClassItem] = {}
        for item in node.items:
            if isinstance(item, syntax.ClassItem):
                if item.key in found:
                    self.scope.error(
                        "N021",
                        f"`{item.key}` is written twice in class `{node.name.text}`",
                        item.span,
                        "write it once",
                        ((found[item.key].span, "the first one"),),
                    )
                found.setdefault(item.key, item)
        return found

    def _match(self, node: syntax.Class, items: dict[str, syntax.ClassItem]) -> ir.Expr | None:
        match = items.get("match")
        if match is None:
            if "default" not in items and not any(isinstance(item, syntax.Broken) for item in node.items):
                self.scope.error(
                    "N064",
                    f"class `{node.name.text}` does not say which packets are its",
                    node.span,
                    "write `match …`, or `default` in one class",
                )
                return ir.Const(False)
            return None
        if "default" in items:
            self.scope.error(
                "N064",
                f"class `{node.name.text}` has both `match` and `default`",
                items["default"].span,
                "the default class takes what no other matches: remove one of them",
            )
            return None
        errors = self.scope.findings.errors
        when = condition(self.scope, match.value)  # type: ignore[arg-type]  # a match holds a condition
        if errors == self.scope.findings.errors and contains_connection(when):
            self.scope.error(
                "N050",
                "classes are chosen packet by packet: a connection's state is not known there",
                match.span,
                "write addresses, ports, DSCP or protocols",
            )
        return when

    def _rates(
        self,
        node: syntax.Class,
        items: dict[str, syntax.ClassItem],
        least: int | None,
        most: int | None,
        room: int | None,
    ) -> None:
        name = node.name.text
        if "urgent" in items and "max" not in items:
            self.scope.error(
                "N061",
                f"class `{name}` is urgent and has no `max`",
                items["urgent"].span,
                "an urgent class goes before all others: give it a `max`, or it can starve them",
            )
        if least is not None and most is not None and least > most:
            self.scope.error(
                "N063",
                f"class `{name}` is promised more than it may have",
                items["min"].span,
                f"`min` is at most {show_rate(most)}",
                ((items["max"].span, "its limit"),),
            )
        if most is not None and room is not None and most > room:
            self.scope.error(
                "N063",
                f"class `{name}` may have more than there is",
                items["max"].span,
                f"what is there for it: {show_rate(room)}",
            )

    def _queues(
        self, node: syntax.Class, items: dict[str, syntax.ClassItem], inner: bool
    ) -> tuple[tuple[ir.Queue, ...], bool]:
        item = items.get("queue")
        if item is None:
            return (), False
        if inner:
            self.scope.error(
                "N065",
                f"class `{node.name.text}` has classes in it: packets wait in those",
                item.span,
                "give the queue to the inner classes",
            )
        return tuple(self._queue(queue) for queue in item.value), item.prefer  # type: ignore[union-attr]  # queues, by the grammar

    def _queue(self, node: syntax.Queue) -> ir.Queue:
        known = QUEUES.get(node.kind.text)
        if known is None:
            self.scope.error(
                "N065",
                f"`{node.kind.text}` is not a queue that netc knows",
                node.kind.span,
                hint(node.kind.text, QUEUES),
            )
            return ir.Queue(node.kind.text)
        options: dict[str, int | str] = {}
        for name, value in (option for option in node.options if isinstance(option, tuple)):
            if name.text not in known:
                self.scope.error(
                    "N065", f"`{node.kind.text}` has no option `{name.text}`", name.span, hint(name.text, known)
                )
                continue
            parsed = (
                1
                if value is None and known[name.text] is _FLAG
                else _value(self.scope, value or name, known[name.text])
            )
            if name.text in options:
                self.scope.error("N021", f"`{name.text}` is written twice", name.span, "write it once")
            options[name.text] = parsed or 0
        return ir.Queue(node.kind.text, tuple(options.items()))


def _word(items: dict[str, syntax.ClassItem], key: str) -> syntax.Word | None:
    item = items.get(key)
    return item.value if item and isinstance(item.value, syntax.Word) else None


def guaranteed(item: ir.Class) -> int:
    """bit/s that a class is promised: its own `min`, else what its inner classes are promised."""
    return item.min if item.min is not None else sum(map(guaranteed, item.classes))


def show_rate(rate: int) -> str:
    """The rate in the largest unit that keeps it whole: 1500mbit, 2gbit."""
    for unit in ("tbit", "gbit", "mbit", "kbit"):
        if rate >= units.BIT_RATES[unit] and rate % units.BIT_RATES[unit] == 0:
            return f"{rate // units.BIT_RATES[unit]}{unit}"
    return f"{rate}bit"
