"""Proves that protected packets, and their replies, pass in every state, or says which rule cuts them.

For every shape of whole packet the protected region is walked through the chain in rule order: a drop rule that may match some of it refuses the
policy; a pass rule takes away what it must match; what reaches the default has to be passed by it. Steering may not take a protected
packet away from the stack.

The promise ends where the packet is left to this host's stack: `filter NIC -> NIC` judges only what the stack routes on, which a policy cannot
tell from what it keeps (the host's addresses are not in it). Packets that nft cannot read: compiler/protect_unread.py.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator, Sequence

from compiler import ir
from compiler.diagnostics import Diagnostic
from compiler.interp import named_control
from compiler.ir import Field
from compiler.source import NOWHERE, Span
from compiler.space import Box, Region, Shape, Space, whole_shapes

_SWAPPED = {Field.SRC: Field.DST, Field.DST: Field.SRC, Field.SPORT: Field.DPORT, Field.DPORT: Field.SPORT,
            Field.ETH_SRC: Field.ETH_DST, Field.ETH_DST: Field.ETH_SRC}  # fmt: skip
_MOST_PIECES = 32  # boxes that a region is broken into before the rest of the cuts wait
_AWAY = ("take a packet that is protected away from the stack", "drop a packet that is protected")
_ONE_WAY = (Field.TCP_FLAGS, Field.ICMP_TYPE, Field.ICMP_CODE, Field.TTL, Field.DSCP, Field.LENGTH)


def prove(program: ir.Program, also: Sequence[ir.Protect] = ()) -> list[Diagnostic]:
    """One finding for each protected flow and thing that cuts it; nothing when every `protect` holds, and what is `also` protected (also_protect.py)."""
    space = Space(program)
    return [finding for protect in (*program.protects, *also) for finding in _prove(protect, program, space)]


def _prove(protect: ir.Protect, program: ir.Program, space: Space) -> Iterator[Diagnostic]:
    said = set()
    for shape in whole_shapes():
        region = space.may(protect.when, shape)
        for finding in _cuts(region, protect, program, space):
            place = finding.notes[0] if finding.notes else finding.span
            if place not in said:  # one finding a rule, not one a shape
                said.add(place)
                yield finding


def _cuts(region: Region, protect: ir.Protect, program: ir.Program, space: Space) -> Iterator[Diagnostic]:
    if not region:
        return
    answer = reply(region)
    for chain in program.chains:
        if chain.nic == protect.nic and chain.direction == "in":
            yield from cuts(region, chain, protect, space, "a packet")
        if chain.nic == protect.nic and chain.direction == "out":
            yield from cuts(answer, chain, protect, space, "a reply")
    for steer in program.steers:
        if steer.nic == protect.nic:
            yield from _steered_away(region, steer, protect, space)


class _Left:
    """What rule by rule is left of a region. Whatever would break it into very many pieces waits until something asks for its place."""

    def __init__(self, region: Region, space: Space) -> None:
        self.region, self.space = region, space
        self._hull = region.hull()
        self._waiting: list[Box] = []

    def misses(self, when: ir.Expr) -> bool:
        """Whether `when` surely has nothing to do with the region."""
        return self.space.misses(when, self._hull, self.region.shape)

    def part(self, when: ir.Expr) -> Region:
        """A part of what is left for which `when` can be true."""
        return self.region.intersect(self.space.may(when, self.region.shape)).outside(self._waiting)

    def rest(self) -> Region:
        """A part of what is left."""
        return self.region.outside(self._waiting)

    def take(self, when: ir.Expr) -> None:
        """Takes away where `when` must be true."""
        sure = self.space.must(when, self.region.shape)
        left = self.region.subtract(sure)
        if len(left.boxes) <= max(_MOST_PIECES, len(self.region.boxes)):
            self.region = left
        else:
            self._waiting += sure.boxes


def cuts(region: Region, chain: ir.Chain, protect: ir.Protect, space: Space, what: str) -> Iterator[Diagnostic]:
    """The first thing in a chain that can drop some of the region; of control traffic in it the first of each kind."""
    for part, kind in _sorts(region, space):
        rules = [rule for rule in chain.rules if not kind or kind in named_control(rule.when)]
        yield from _cuts_of(_Left(part, space), rules, "pass" if kind else chain.default, chain, protect, what)


def _sorts(region: Region, space: Space) -> Iterator[tuple[Region, str]]:
    """The region by which rules judge it: a kind of control traffic meets those that name it and no default, everything else ("") meets all."""
    rest = region
    for kind in ir.CONTROL_KINDS:  # a packet is of one at most
        known = space.may(ir.Is(kind), region.shape)
        if part := rest.intersect(known):
            rest = rest.subtract(known)
            yield part, kind
    if rest:
        yield rest, ""


def _cuts_of(left: _Left, rules: Sequence[ir.Rule], default: str, chain: ir.Chain, protect: ir.Protect, what: str) -> Iterator[Diagnostic]:
    for rule in rules:
        if left.misses(rule.when):
            continue
        if rule.verdict == "drop" and (cut := left.part(rule.when)):
            yield _finding("N601", f"`{rule.text or rule.name}` can drop {what} that is protected", protect, rule.span, cut, chain)
            return
        if rule.verdict == "pass" and rule.limit is None:
            left.take(rule.when)
            if not left.region:
                return
    if default == "drop" and (rest := left.rest()):
        yield _finding("N602", f"the default of {chain.name} drops {what} that is protected", protect, chain.span, rest, chain)


def _steered_away(region: Region, steer: ir.Steer, protect: ir.Protect, space: Space) -> Iterator[Diagnostic]:
    for part, kind in _sorts(region, space):
        rules = [rule for rule in steer.rules if not kind or kind in named_control(rule.when)]
        yield from _steered(_Left(part, space), rules, None if kind else steer.default, steer, protect)


def _steered(left: _Left, rules: Sequence[ir.SteerRule], default: ir.Target | None, steer: ir.Steer, protect: ir.Protect) -> Iterator[Diagnostic]:
    for rule in rules:
        if left.misses(rule.when):
            continue
        if rule.target.kind in ir.LEAVES_THE_STACK and (taken := left.part(rule.when)):
            message = f"`{rule.text or rule.name}` can {_AWAY[rule.target.kind == 'drop']}"
            yield _finding("N603", message, protect, rule.span, taken, steer)
            return
        if not rule.prefer:  # else the device may not have it, and the next rule gets its packets
            left.take(rule.when)
        if not left.region:
            return
    if default is not None and default.kind in ir.LEAVES_THE_STACK and (rest := left.rest()):
        yield _finding("N603", f"the default target can {_AWAY[default.kind == 'drop']}", protect, steer.span, rest, steer)


def _finding(code: str, message: str, protect: ir.Protect, span: Span, cut: Region, place: ir.Chain | ir.Steer) -> Diagnostic:
    if protect.span is NOWHERE:
        return _of_the_command(code, message, protect, span, place)
    helps = f"pass the protected packets before it in {place.name}, or narrow one of the two; such a packet is: {_words(cut)}"
    return Diagnostic(code, message, protect.span, helps, ((span, "this cuts it"),))


def _of_the_command(code: str, message: str, protect: ir.Protect, span: Span, place: ir.Chain | ir.Steer) -> Diagnostic:
    """What cuts the connection that the command is run over: nothing in the policy speaks of that."""
    message = f"{message}: the connection that this command is run over needs it ({protect.text})"
    line = f"`protect {protect.nic} {{ {protect.text} }}`"
    return Diagnostic(code, message, span, f"{_mend(protect, place)}; {line} in the policy proves it wherever you come from; --allow-lockout: apply it all the same")


def _mend(protect: ir.Protect, place: ir.Chain | ir.Steer) -> str:
    if isinstance(place, ir.Steer):
        return f"leave it out in {place.name}"
    ends = {"dport": "sport", "src": "dst", "dst": "src"} if place.direction == "out" else {}
    words = " ".join(ends.get(word, word) for word in protect.text.split())
    return f"write `pass {words}` in front of it in {place.name}"


def reply(region: Region) -> Region:
    """The packets that answer the region's: ends exchanged; flags, types and lengths are the answerer's own."""
    boxes = tuple({_SWAPPED.get(field, field): values for field, values in box.items() if field not in _ONE_WAY} for box in region.boxes)
    return Region(region.shape, boxes)


def _words(region: Region) -> str:
    """One packet of the region, as a person would write it."""
    values, shape = region.example(), region.shape
    named = [f"{field.value} {_value(field, value)}" for field, value in values.items() if field in _shown(shape, region)]
    return ", ".join([shape.name, *named])


def _shown(shape: Shape, region: Region) -> set[Field]:
    return set(region.boxes[0]) - {Field.PROTO, Field.ETHERTYPE}


def _value(field: Field, value: int) -> str:
    if field in (Field.SRC, Field.DST):
        return str(ipaddress.IPv4Address(value - ir.V4_BASE) if value >= ir.V4_BASE else ipaddress.IPv6Address(value))
    return str(value)
