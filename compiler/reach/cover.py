"""Which rules no packet gets to, and the rules above that take their packets: exact, by counterexamples.

Each rule begins with a packet that it matches. If no rule above takes that one, the rule is reached. Otherwise those that take it are remembered, and
what they leave of the rule's packets gives new ones: until a packet comes through, or nothing is left, which is the proof (compiler.space, over
every shape of packets; control traffic apart, which only rules that name it judge). What is not settled within the bounds counts as reached.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache, reduce

from compiler import ir, ranges
from compiler.ir import Field
from compiler.reach import implied
from compiler.reach.points import Point, Points, numbers
from compiler.reach.shapes import FIELDS_OF_KINDS, asked_for, tests_of, told_apart
from compiler.reach.values import MOST_RANGES, Values, inside, plain, some_value, tested, usual
from compiler.space import Region, Shape, Space

MOST_RULES = 32768  # of a longer list none is looked for: the work grows with its square
MOST_ROUNDS = 12
MOST_PIECES = 96  # of what is left of a rule
MOST_CUTS = 40_000  # boxes taken off, of all rules together
_PROBES = 16  # new packets of a rule in a round
_CHUNK = 16384  # points judged together
_FIELDS = frozenset((*FIELDS_OF_KINDS, "arp"))  # kinds that a shape does not settle, or that are control traffic alone


@dataclass(slots=True)
class _Open:
    """A rule that is not settled. takers: rules above that took one of its packets."""

    rule: int
    takers: set[int] = field(default_factory=set)


class Cover:
    """The rules of one list, first match deciding. shapes: of the packets that count."""

    def __init__(self, rules: Sequence[ir.Rule], program: ir.Program, shapes: Sequence[Shape]) -> None:
        self._rules, self._space = rules, Space(program)
        self._sets = {item.name: item for item in program.sets}
        self._when = [rule.when for rule in rules]
        tests = tests_of(self._when)
        kinds, self._fields = asked_for(tests)
        self._shapes = told_apart(shapes, kinds, self._fields)
        naming = enumerate(rules) if kinds & set(ir.CONTROL_KINDS) else ()
        self._names = {at: names for at, rule in naming if (names := _controls(rule.when))}
        large = {item.set for item in tests if isinstance(item, ir.Member) and len(self._sets[item.set].ranges) > MOST_RANGES}
        self._large = {at for at, when in enumerate(self._when) if large and _mentions(when, large)}
        self._usual = usual(self._shapes, tests, self._fields)
        self._cuts = MOST_CUTS
        self._domains = [{id(name): values for name, values in shape.domain} for shape in self._shapes]
        self._fitting = cache(self._shapes_with)

    def unreached(self) -> dict[int, tuple[int, ...]]:
        """For each rule that no packet gets to the rules above that take all of its packets, ascending."""
        found: dict[int, tuple[int, ...]] = {}
        if len(self._rules) > MOST_RULES:
            return found
        pending = [(_Open(at), [point]) for at in range(1, len(self._rules)) if (point := self._first(at)) is not None]
        for _ in range(MOST_ROUNDS):
            if not pending:
                break

            self._judge(pending)
            again = []
            for item, points in pending:
                if not points:  # one came through
                    continue
                if (taken := self._single(item)) is not None:
                    found[item.rule] = (taken,)
                elif (left := self._left(item)) is not None:
                    if left:
                        again.append((item, left))
                    else:
                        found[item.rule] = tuple(sorted(item.takers))
            pending = again
        return found

    # What is left of a rule

    def _single(self, item: _Open) -> int | None:
        """A rule above that says at least the same."""
        when, names = self._when[item.rule], self._names.get(item.rule, frozenset())
        for at in sorted(item.takers):
            if names <= self._names.get(at, frozenset()) and implied.follows(self._when[at], when):
                return at
        return None

    def _left(self, item: _Open, most: int = _PROBES) -> list[Point] | None:
        """Packets of the rule that its takers do not take; none when they take all. None: not to be told within the bounds."""
        found: list[Point] = []
        if item.rule in self._large:
            return None
        for number, shape in enumerate(self._shapes):
            for control, rest in self._parts(item.rule, shape):
                for at in sorted(item.takers - self._large):
                    if not control or control in self._names.get(at, frozenset()):
                        cut = self._space.must(self._when[at], shape)
                        self._cuts -= 1 + len(cut.boxes)
                        rest = rest.subtract(cut)
                        if not rest:
                            break
                        if len(rest.boxes) > MOST_PIECES or self._cuts < 0:
                            return None
                if rest and item.takers & self._large:
                    return None
                found += [Point(number, values, control) for values in inside(rest, self._fields, most - len(found))]
                if len(found) >= most:
                    return found
        return found

    def _parts(self, at: int, shape: Shape) -> Iterator[tuple[str, Region]]:
        """The rule's packets of this shape, by the control kind that they are; "" for the others. Only what the rule is asked about."""
        if not (whole := self._space.may(self._when[at], shape)):
            return
        plain = whole
        for kind in ir.CONTROL_KINDS:
            if not (control := self._space.may(ir.Is(kind), shape)):
                continue
            plain = plain.subtract(control)
            if kind in self._names.get(at, frozenset()) and (part := whole.intersect(control)):
                yield kind, part
        if plain:
            yield "", plain

    # Packets to begin with

    def _first(self, at: int) -> Point | None:
        """Some packet of the rule; None when there is none that it would be asked about, or its sets are very large."""
        when = self._when[at]
        kinds, tests = [], []
        for item in when.items if isinstance(when, ir.And) else (when,):
            for part in (item,) if type(item) is ir.Within else _first_alternative(item):
                if type(part) is ir.Is:
                    kinds.append(part.kind)
                elif type(part) is ir.Within or plain(part, self._sets):
                    tests.append(part)
                else:
                    return self._slowly(at)
        if at not in self._names and not _FIELDS.intersection(kinds):
            for number in self._fitting(frozenset(kinds)):
                if (values := self._values(number, tests)) is not None:
                    return self._slowly(at) if self._could_be_control(number, values) else Point(number, values)
        return self._slowly(at)

    def _values(self, number: int, tests: list[ir.Expr]) -> Values | None:
        """Of the fields that are tested, in a shape; None when the tests exclude each other there."""
        found: Values = {}
        allowed = self._domains[number]
        for item in tests:
            name, wanted = (item.field, item.ranges) if type(item) is ir.Within else tested(item, self._sets)
            key = id(name)
            if key in found:  # flags that are asked for beside others that are not
                wanted = _both(wanted, *(tested(other, self._sets)[1] for other in tests if other is not item and tested(other, self._sets)[0] is name))
            if (value := some_value(wanted, allowed.get(key, ()))) is None:
                return None
            found[key] = value
        return found

    def _slowly(self, at: int) -> Point | None:
        found = self._left(_Open(at), 1)
        return found[0] if found else None

    def _shapes_with(self, kinds: frozenset[str]) -> list[int]:
        return [number for number, shape in enumerate(self._shapes) if kinds <= shape.kinds and "arp" not in shape.kinds]

    def _could_be_control(self, number: int, values: Values) -> bool:
        kinds = self._shapes[number].kinds
        if "icmp6" in kinds:
            return 130 <= values.get(id(Field.ICMP_TYPE), self._usual[number].get(id(Field.ICMP_TYPE), 0)) <= 143
        return not kinds and (id(Field.ETHERTYPE) in values or id(Field.ETH_DST) in values)

    # Judging

    def _judge(self, pending: list[tuple[_Open, list[Point]]]) -> None:
        """Empties the points of the rules that one of their points gets to; notes for the others which rules took them."""
        begin = 0
        while begin < len(pending):
            end, count = begin, 0
            while end < len(pending) and count < _CHUNK:
                count += len(pending[end][1])
                end += 1
            self._judge_some(pending[begin:end])
            begin = end

    def _judge_some(self, pending: list[tuple[_Open, list[Point]]]) -> None:
        points = Points([point for _, some in pending for point in some], self._shapes, self._usual, self._sets)
        owner = [item for item, some in pending for _ in some]
        alive, at, rule = points.all, 0, 0
        for item, some in pending:
            while rule < item.rule:
                if self._rules[rule].limit is None and (taken := self._taken(points, rule, alive)):
                    alive ^= taken
                    for number in numbers(taken):
                        owner[number].takers.add(rule)
                rule += 1
            mine = (1 << len(some)) - 1 << at
            at += len(some)
            if alive & mine:
                some.clear()
                alive &= ~mine

    def _taken(self, points: Points, rule: int, alive: int) -> int:
        if points.control:
            asked = points.plain
            for kind in self._names.get(rule, ()):
                asked |= points.control.get(kind, 0)
            alive &= asked
        return points.true(self._when[rule], alive) if alive else 0


@lru_cache(maxsize=64)
def _both(*wanted: ir.Ranges) -> ir.Ranges:
    """The same few again and again."""
    return reduce(ranges.intersect, wanted)


def _first_alternative(item: ir.Expr) -> tuple[ir.Expr, ...]:
    """Of a choice the first: a packet that meets that will do."""
    while isinstance(item, ir.Or) and item.items:
        item = item.items[0]
    return item.items if isinstance(item, ir.And) else (item,)


def _controls(when: ir.Expr) -> frozenset[str]:
    """The control kinds that the condition names outside `not`: of control traffic it is asked about these alone."""
    if isinstance(when, ir.And | ir.Or):
        return frozenset([kind for item in when.items if not isinstance(item, ir.Within) for kind in _controls(item)])
    return frozenset([when.kind]) if isinstance(when, ir.Is) and when.kind in ir.CONTROL_KINDS else frozenset()


def _mentions(when: ir.Expr, sets: set[str]) -> bool:
    if isinstance(when, ir.And | ir.Or):
        return any(_mentions(item, sets) for item in when.items)
    return _mentions(when.item, sets) if isinstance(when, ir.Not) else isinstance(when, ir.Member) and when.set in sets
