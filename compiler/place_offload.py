"""Which rules of a filter the NIC's own program judges (`xdp offload`), and why the others are left to the host.

The NIC drops and counts what the policy surely drops; whatever it passes, the host judges by the whole policy, as if there were no NIC's half. So a
rule is the NIC's only when it drops, can be judged there exactly, and has a counter there. What may match any other rule goes to the host at that
rule: its condition is widened where the NIC cannot know, by three-valued logic, never narrowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from compiler import bundle, ir, place
from compiler.place_chain import parts
from compiler.profile import OffloadMaps
from compiler.reach import implied

_MOST_RANGES = 64  # of one condition: each is a comparison in the program's text
_MOST_WORK = 1500  # comparisons of a whole program: some ten thousand instructions
_IPV6 = 3
_AT_ONCE = 4  # ranges of one test: what c_expr writes out and does not look up
_WHOLE = {ir.Field.SRC: (0, ir.V4_LAST), ir.Field.DST: (0, ir.V4_LAST)}
Sets = Mapping[str, ir.Set]


@dataclass(frozen=True, slots=True)
class OnNic:
    """One step of the NIC's program, in the policy's order. counter: of the rule that drops what meets `when`; "": that goes to the host."""

    when: ir.Expr
    counter: str


@dataclass(frozen=True, slots=True)
class NicHalf:
    """What the NIC judges of a chain; `reasons` has a line for each rule that drops. Nothing in `steps` behind the last that drops."""

    steps: tuple[OnNic, ...]
    reasons: tuple[bundle.Placement, ...]

    @property
    def counters(self) -> tuple[str, ...]:
        """In the order of their places."""
        return tuple(step.counter for step in self.steps if step.counter)


def split(placed: place.ChainPlacement, sets: Sets, maps: OffloadMaps) -> NicHalf:
    """The NIC's half of a chain that XDP judges, as far as its maps have room for counters."""
    return _Split(placed, sets, maps).made()


class _Split:
    """Walks the rules once, in order."""

    def __init__(self, placed: place.ChainPlacement, sets: Sets, maps: OffloadMaps) -> None:
        self.placed, self.chain, self.sets = placed, placed.chain, sets
        self.room, self.work = maps.elements * maps.pairs, _MOST_WORK
        self.steps: list[OnNic] = []
        self.to_host: list[tuple[ir.Expr, str]] = []  # what goes to the host, and the rule that it goes there for
        self.reasons: list[bundle.Placement] = []

    def made(self) -> NicHalf:
        for rule in self.chain.rules[: self.placed.split]:
            if not rule.covered:
                self._rule(rule)
        for rule in self.chain.rules[self.placed.split :]:
            self._tell(rule.name, rule.verdict, "connection tracking judges it, on the host", rule.span)
        self._default()
        last = max((at for at, step in enumerate(self.steps) if step.counter), default=-1)
        return NicHalf(tuple(self.steps[: last + 1]), tuple(self.reasons))

    def _rule(self, rule: ir.Rule) -> None:
        why = "" if rule.verdict == "drop" else "it passes"
        why = why or _inexact(rule, self.sets) or self._taken(rule.when) or self._no_room(rule.when)
        if not why:
            self._drop(_written_out(rule.when, self.sets), rule.name, rule.span)
            return
        self._tell(rule.name, rule.verdict, why, rule.span)
        self._pass(may_be_true(rule.when, self.sets), rule.text or rule.name)

    def _default(self) -> None:
        chain = self.chain
        if chain.default != "drop":
            return
        why = "rules before it are judged by connection tracking, on the host" if self.placed.late else self._taken(ir.Const(True)) or self._no_room(ir.Const(True))
        if why:
            self._tell("default", "drop", why, chain.default_span)
        else:
            self._drop(ir.Const(True), "default", chain.default_span)

    def _drop(self, when: ir.Expr, name: str, span: object) -> None:
        self.steps.append(OnNic(when, f"{self.chain.name}.{name}"))
        self.room -= 1
        self.work -= cost(when)
        self._say(name, "dropped and counted on the NIC; XDP on the host judges what the NIC passes on", span, "nic, xdp")

    def _pass(self, when: ir.Expr, text: str) -> None:
        """Where it would be too much to ask, everything from here on is the host's."""
        if cost(when) > self.work or _every_address(when):
            when = ir.Const(True)
        self.work -= cost(when)
        self.to_host.append((when, text))
        self.steps.append(OnNic(when, ""))

    def _taken(self, when: ir.Expr) -> str:
        """By a rule above whose packets the host has to judge."""
        text = next((text for wide, text in self.to_host if implied.follows(wide, when)), "")
        return f"its packets go to the host at `{text}`, which stands above it" if text else ""

    def _no_room(self, when: ir.Expr) -> str:
        if self.room < 1:
            return "the NIC's maps have no room for its counter"
        return "the NIC's program would be too long with it" if cost(_written_out(when, self.sets)) > self.work else ""

    def _tell(self, name: str, verdict: str, why: str, span: object) -> None:
        """A rule that passes is on the host in any case; nobody asks why."""
        if verdict == "drop":
            self._say(name, f"not on the NIC: {why}", span)

    def _say(self, name: str, why: str, span: object, stage: str = "xdp") -> None:
        file, line = getattr(span, "file", ""), getattr(span, "line", 0)
        self.reasons.append(bundle.Placement(f"{self.chain.name}.{name}", stage, why, file, line))


def _inexact(rule: ir.Rule, sets: Sets) -> str:
    """Why the NIC cannot judge a rule exactly; "" where it can."""
    if rule.limit is not None:
        return "it has a limit, and the host keeps the buckets"
    if rule.effects:
        return "it does something with the packet or a set (`then`), which the host does"
    return next((why for part in parts(rule.when) if (why := _unknown(part, sets))), "")


def _unknown(leaf: ir.Expr, sets: Sets) -> str:
    """Why the NIC does not know whether this test holds."""
    match leaf:
        case ir.Connection():
            return "it asks the connection, which the host tracks"
        case ir.Member(_, name) if sets[name].size is not None:
            return f"it asks for members of {name}, which the host keeps"
        case ir.Member(_, name) if len(sets[name].ranges) > _MOST_RANGES:
            return f"{name} has {len(sets[name].ranges):,} ranges; up to {_MOST_RANGES} are written into the NIC's program"
        case ir.Within(_, ranges) if len(ranges) > _MOST_RANGES:
            return f"it names {len(ranges):,} ranges; up to {_MOST_RANGES} are written into the NIC's program"
    return ""


def _every_address(when: ir.Expr) -> bool:
    """Hardly a packet gets past it: what is left of the rules behind it is not worth its place."""
    return isinstance(when, ir.Within) and when.field in _WHOLE and when.ranges == (_WHOLE[when.field],)


def may_be_true(when: ir.Expr, sets: Sets) -> ir.Expr:
    """True wherever `when` may be true, by what the NIC knows: a test that it cannot make may hold and may fail, where its field is there at all."""
    return _widened(when, sets, True)


def _widened(when: ir.Expr, sets: Sets, wanted: bool) -> ir.Expr:
    """`not` goes down to the leaves first: above them, and and or only get wider where a leaf does."""
    match when:
        case ir.Not(item):
            return _widened(item, sets, not wanted)
        case ir.And(items) | ir.Or(items):
            made = tuple(_widened(item, sets, wanted) for item in items)
            return ir.And(made) if isinstance(when, ir.And) == wanted else ir.Or(made)
        case ir.Const(value):
            return ir.Const(value == wanted)
    if _unknown(when, sets):
        field = getattr(when, "field", None)
        return ir.Within(field, ((0, _last(field)),)) if field is not None else ir.Const(True)
    leaf = _written_out(when, sets)
    return leaf if wanted else ir.Not(leaf)


def _last(field: ir.Field) -> int:
    return _WHOLE[field][1] if field in _WHOLE else (1 << ir.FIELD_BITS[field]) - 1


def _written_out(when: ir.Expr, sets: Sets) -> ir.Expr:
    """The same condition without sets, a few ranges a test: nothing is looked up in a map."""
    match when:
        case ir.Not(item):
            return ir.Not(_written_out(item, sets))
        case ir.And(items):
            return ir.And(tuple(_written_out(item, sets) for item in items))
        case ir.Or(items):
            return ir.Or(tuple(_written_out(item, sets) for item in items))
        case ir.Member(field, name):
            return _in_parts(field, sets[name].ranges)
        case ir.Within(field, ranges):
            return _in_parts(field, ranges)
    return when


def _in_parts(field: ir.Field, ranges: ir.Ranges) -> ir.Expr:
    made = tuple(ir.Within(field, ranges[at : at + _AT_ONCE]) for at in range(0, len(ranges), _AT_ONCE))
    return made[0] if len(made) == 1 else ir.Or(made) if made else ir.Within(field, ())


def cost(when: ir.Expr) -> int:
    """Comparisons that a condition comes to in C, about; one for the rule itself."""
    return 1 + sum(_comparisons(part) for part in parts(when) if not isinstance(part, ir.And | ir.Or | ir.Not))


def _comparisons(test: ir.Expr) -> int:
    """A range of IPv6 addresses is compared in four words of 64 bits, each of which lies in two halves."""
    if not isinstance(test, ir.Within):
        return 1
    return sum(_IPV6 if test.field in _WHOLE and low < ir.V4_BASE else 1 for low, _ in test.ranges)
