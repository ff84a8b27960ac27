"""The reference interpreter: packet and state in, verdict, rule, target and class out. It is the definition of the language.

It reads an `ir.Program` and raw frames and imports nothing of the lowering. What a packet is and how it is judged stands in
docs/packet-model.md; this file follows its section "Judging". Two modes, by `placed_split`:

- whole (None): every rule is judged, `Connection` by the model in interp_conntrack.py;
- early ({chain name: split}): only rules[:split] of those chains, as XDP does, with `handed-on` as a result for IP packets that
  none of them matched. A chain that is not in the mapping, or whose split is all of its rules, is judged whole.

Expressions become closures once, so that a packet costs microseconds. An expression's value is True, False or None (absent).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from compiler import ir
from compiler.interp_conntrack import Connections
from compiler.interp_state import AnySet, DynamicSet, RateLimit, StaticSet
from compiler.packet import Packet, parse

CONTROL = frozenset(ir.CONTROL_KINDS)
PASS, DROP, HANDED_ON = "pass", "drop", "handed-on"


@dataclass(frozen=True, slots=True)
class Judgement:
    """What happens to one packet. rule, steer, shape: full counter names ("" where nothing was counted); bytes: the frame's.

    verdict: pass, drop, handed-on. rule: what decided it; for a packet that the filter passes and a steer rule drops that is the steer rule.
    target: where the steer rule sends it: a `to queues` or `to cpus` names every queue or CPU that may take it.
    """

    verdict: str
    rule: str
    bytes: int
    steer: str = ""
    target: ir.Target | None = None
    shape: str = ""


@dataclass(slots=True)
class _Look:
    """One packet being judged: what expressions look at. state: its connection state, None while or where it has none."""

    fields: dict[ir.Field, int]
    kinds: frozenset[str]
    now: int
    state: str | None = None


Value = bool | None
Test = Callable[[_Look], Value]


@dataclass(frozen=True, slots=True)
class _Rule:
    """A filter or steer rule, ready to run. control: the control kinds that it judges."""

    counter: str
    test: Test
    control: frozenset[str]
    verdict: str = ""
    limit: RateLimit | None = None
    effects: tuple[ir.Effect, ...] = ()
    target: ir.Target | None = None


@dataclass(frozen=True, slots=True)
class _Chain:
    """head: rules judged before the connection is known; tail: the rest. hands_on: the tail is not this stage's for IP packets."""

    definition: ir.Chain
    head: tuple[_Rule, ...]
    tail: tuple[_Rule, ...]
    hands_on: bool


@dataclass(frozen=True, slots=True)
class _Class:
    counter: str
    test: Test | None
    classes: tuple[_Class, ...]


class Interpreter:
    """Judges frames one after the other; limits, dynamic sets, connections and `counters` live on between them.

    counters: full name -> [packets, bytes]; a counter appears at zero from the beginning.
    """

    def __init__(self, program: ir.Program, placed_split: Mapping[str, int] | None = None) -> None:
        self.program = program
        self.counters: dict[str, list[int]] = {}
        self.sets: dict[str, AnySet] = {}
        for definition in program.sets:
            self._add_set(definition)
        self._connections = Connections()
        self._tracks = any(names_connection(rule.when) for chain in program.chains for rule in chain.rules)
        splits = placed_split or {}
        self._chains = {(c.nic, c.direction, c.to or ""): self._chain(c, splits.get(c.name)) for c in program.chains}
        self._steers = {steer.nic: (steer, self._steer_rules(steer)) for steer in program.steers}
        self._shapes = {(s.nic, s.direction): self._classes(s.name, s.classes) for s in program.shapes}

    def judge(self, frame: bytes, nic: str, direction: str, now: int, to: str = "") -> Judgement:
        """Judge one frame at `now` (ns). direction: in, out, forward (then `to` names the other nic).

        Raises ValueError for a frame of fewer than 14 bytes and a time before 1.
        """
        if now < 1:
            raise ValueError(f"time is at least 1 ns, not {now}: a clock of 0 stands for the kernel's clock")
        packet = parse(frame)
        look = _Look(packet.fields, packet.kinds, now)
        verdict, rule = PASS, ""
        chain = self._chains.get((nic, direction, to))
        if chain is not None:
            verdict, rule = self._filter(chain, look, packet, frame)
        if verdict == DROP:
            return Judgement(verdict, rule, len(frame))
        look.state = None
        steer, target = self._steer(nic, look, packet, verdict, len(frame)) if direction == "in" else ("", None)
        if target is not None and target.kind == DROP:
            return Judgement(DROP, steer, len(frame), steer, target)
        if verdict == PASS and (target is None or target.kind not in ir.LEAVES_THE_STACK):
            self._remember(packet, frame, now)
        return Judgement(verdict, rule, len(frame), steer, target, self._shape(nic, direction, look, len(frame)))

    def give(self, set_name: str, value: int, now: int, timeout: int | None = None) -> str:
        """Put a member into a dynamic set by hand. Returns "" or what refused it: `never`, `full`. Raises KeyError, TypeError."""
        target = self.sets[set_name]
        if not isinstance(target, DynamicSet):
            raise TypeError(f"{set_name} is not a dynamic set: its members stand in the policy")
        answer = target.add(value, now, timeout, renew=True)
        return "" if answer == "evicted" else answer

    # Filtering

    def _filter(self, chain: _Chain, look: _Look, packet: Packet, frame: bytes) -> tuple[str, str]:
        """The chain's verdict and counter."""
        name, size = chain.definition.name, len(frame)
        self._count(f"{name}.seen", size)
        if packet.control:
            rule = _first_match(chain.head + chain.tail, look, packet.control)
            if rule is None:
                return PASS, self._count(f"{name}.control", size)
        else:
            rule = _first_match(chain.head, look)
            if rule is None and chain.tail:
                if _is_ip(packet):
                    if chain.hands_on:
                        return HANDED_ON, self._count(f"{name}.handed-on", size)
                    look.state = self._connections.state(packet, frame, look.now)
                rule = _first_match(chain.tail, look)
        if rule is None:
            return chain.definition.default, self._count(f"{name}.default", size)
        self._count(rule.counter, size)
        self._apply(rule.effects, look, size)
        return rule.verdict, rule.counter

    def _apply(self, effects: tuple[ir.Effect, ...], look: _Look, size: int) -> None:
        """Effects that the language can see: members added. Samples, logs and DSCP marks leave no trace in a judgement."""
        for effect in effects:
            if not isinstance(effect, ir.Add) or effect.field not in look.fields:
                continue
            target = self.sets[effect.set]
            assert isinstance(target, DynamicSet), f"{effect.set} is static: ir_spec refuses that"
            answer = target.add(look.fields[effect.field], look.now, effect.timeout, effect.renew)
            if answer:
                self._count(f"{effect.set}.{'never' if answer == 'never' else 'full'}", size)

    def _remember(self, packet: Packet, frame: bytes, now: int) -> None:
        """What passes and stays with the stack is tracked, as the kernel tracks it, whichever rule passed it."""
        if self._tracks and _is_ip(packet) and not packet.control:
            self._connections.state(packet, frame, now)
            self._connections.remember(packet, frame, now)

    # Steering and classes

    def _steer(self, nic: str, look: _Look, packet: Packet, verdict: str, size: int) -> tuple[str, ir.Target | None]:
        """The steer rule that a passed or handed-on packet follows: its counter and target."""
        found = self._steers.get(nic)
        if found is None:
            return "", None
        steer, rules = found
        if verdict == HANDED_ON:
            rules = tuple(r for r in rules if r.target is not None and r.target.kind not in ir.LEAVES_THE_STACK)
        rule = _first_match(rules, look, packet.control or None)
        if rule is not None:
            return self._count(rule.counter, size), rule.target
        if steer.default is None or packet.control or (verdict == HANDED_ON and steer.default.kind in ir.LEAVES_THE_STACK):
            return "", None
        return self._count(f"{steer.name}.default", size), steer.default

    def _shape(self, nic: str, direction: str, look: _Look, size: int) -> str:
        """The counter of the class that takes the packet, "" where the direction is not shaped."""
        classes = self._shapes.get((nic, direction), ())
        while classes:
            taken = next(c for c in classes if c.test is None or c.test(look) is True)
            if not taken.classes:
                return self._count(taken.counter, size)
            classes = taken.classes
        return ""

    def _count(self, name: str, size: int) -> str:
        counter = self.counters[name]
        counter[0] += 1
        counter[1] += size
        return name

    # Preparing a program

    def _new_counter(self, name: str) -> str:
        self.counters[name] = [0, 0]
        return name

    def _add_set(self, definition: ir.Set) -> None:
        if definition.size is None:
            self.sets[definition.name] = StaticSet(definition.ranges)
            return
        never = definition.never
        self.sets[definition.name] = DynamicSet(
            definition, lambda value, now: any(self.sets[name].holds(value, now) for name in never)
        )
        for reason in ("full", "never"):
            self._new_counter(f"{definition.name}.{reason}")

    def _chain(self, chain: ir.Chain, split: int | None) -> _Chain:
        for kind in ("seen", "default", "control", "handed-on"):
            self._new_counter(f"{chain.name}.{kind}")
        rules = tuple(self._rule(chain.name, rule) for rule in chain.rules)
        hands_on = split is not None and split < len(rules)
        cut = split if split is not None and hands_on else _first_stateful(chain)
        return _Chain(chain, rules[:cut], rules[cut:], hands_on)

    def _rule(self, chain: str, rule: ir.Rule) -> _Rule:
        counter = self._new_counter(f"{chain}.{rule.name}")
        limit = RateLimit(rule.limit) if rule.limit else None
        return _Rule(counter, self._test(rule.when), named_control(rule.when), rule.verdict, limit, rule.effects)

    def _steer_rules(self, steer: ir.Steer) -> tuple[_Rule, ...]:
        if steer.default is not None:
            self._new_counter(f"{steer.name}.default")
        return tuple(
            _Rule(
                self._new_counter(f"{steer.name}.{r.name}"), self._test(r.when), named_control(r.when), target=r.target
            )
            for r in steer.rules
        )

    def _classes(self, shape: str, classes: tuple[ir.Class, ...]) -> tuple[_Class, ...]:
        """The classes in the order in which they are asked: the default (no `when`) last."""
        ordered = sorted(classes, key=lambda c: c.when is None)
        return tuple(
            _Class(
                self._new_counter(f"{shape}.{c.name}"),
                None if c.when is None else self._test(c.when),
                self._classes(shape, c.classes),
            )
            for c in ordered
        )

    def _test(self, expr: ir.Expr) -> Test:
        """The expression as a closure from a packet to True, False or None (absent); Kleene's three-valued logic."""
        match expr:
            case ir.Const(value):
                return lambda look: value
            case ir.Is(kind):
                return lambda look: kind in look.kinds
            case ir.Within(field, ranges):
                return _held(StaticSet(ranges), field)
            case ir.Bits(field, mask, wanted):
                return _bits(field, mask, wanted)
            case ir.Member(field, name):
                return _held(self.sets[name], field)
            case ir.Connection(states):
                return lambda look: None if look.state is None else look.state in states
            case ir.Not(item):
                return _negated(self._test(item))
            case ir.And(items):
                return _joined(tuple(self._test(item) for item in items), decisive=False)
            case ir.Or(items):
                return _joined(tuple(self._test(item) for item in items), decisive=True)


def _held(members: AnySet, field: ir.Field) -> Test:
    holds = members.holds

    def test(look: _Look) -> Value:
        value = look.fields.get(field)
        return None if value is None else holds(value, look.now)

    return test


def _bits(field: ir.Field, mask: int, wanted: int) -> Test:
    def test(look: _Look) -> Value:
        value = look.fields.get(field)
        return None if value is None else value & mask == wanted

    return test


def _negated(inner: Test) -> Test:
    def test(look: _Look) -> Value:
        value = inner(look)
        return None if value is None else not value

    return test


def _joined(tests: tuple[Test, ...], *, decisive: bool) -> Test:
    """And (decisive False) or Or (decisive True): one decisive value decides, else absent if any is absent."""

    def test(look: _Look) -> Value:
        result: Value = not decisive
        for part in tests:
            value = part(look)
            if value is decisive:
                return decisive
            if value is None:
                result = None
        return result

    return test


def _first_match(rules: tuple[_Rule, ...], look: _Look, control: frozenset[str] | None = None) -> _Rule | None:
    """The first rule that matches; of a control packet (`control`: its kinds) only rules that name one of them are asked."""
    for rule in rules:
        if control is not None and not rule.control & control:
            continue
        if rule.test(look) is True and (rule.limit is None or rule.limit.matches(look.fields, look.now)):
            return rule
    return None


def _is_ip(packet: Packet) -> bool:
    return "ip4" in packet.kinds or "ip6" in packet.kinds


def _first_stateful(chain: ir.Chain) -> int:
    """Where the connection has to be known: the first rule that asks; what leaves or is forwarded is tracked before any rule."""
    stateful = [index for index, rule in enumerate(chain.rules) if names_connection(rule.when)]
    if not stateful:
        return len(chain.rules)
    return stateful[0] if chain.direction == "in" else 0


def names_connection(expr: ir.Expr) -> bool:
    """Whether the expression asks connection tracking anywhere."""
    match expr:
        case ir.Connection():
            return True
        case ir.Not(item):
            return names_connection(item)
        case ir.And(items) | ir.Or(items):
            return any(names_connection(item) for item in items)
        case _:
            return False


def named_control(expr: ir.Expr) -> frozenset[str]:
    """The control kinds that an expression names outside `not`: a rule judges control packets of these kinds only."""
    match expr:
        case ir.Is(kind):
            return frozenset((kind,)) & CONTROL
        case ir.And(items) | ir.Or(items):
            return frozenset().union(*(named_control(item) for item in items))
        case _:
            return frozenset()
