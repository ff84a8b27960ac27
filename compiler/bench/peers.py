"""The same filter in the words of other tools, for `netc bench` to measure them beside netc; a tool that cannot say it is named with the reason.

Only what the flows of a measurement can meet has to be said alike: whole TCP, UDP, SCTP, ICMP and other IP packets. Every rule becomes lines that name
its number, so that the tool's own counters can be held to the policy.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from itertools import product

from compiler import ir, ranges
from compiler.ir import V4_BASE, V4_LAST, Field
from compiler.tables.flows import PeerFilter
from compiler.tables.members import prefixes

IPTABLES, XDP_FILTER = "iptables", "xdp-filter"
MAX_LINES = 64  # of one rule: sets of addresses would need ipset
_MAX_PORTS = 7  # ranges of one multiport match, which takes 15 ports
_PROTOS = {"tcp": 6, "udp": 17, "sctp": 132, "icmp4": 1, "icmp6": 58}
_WITH_PORTS = (6, 17, 132)
_FLAGS = ("FIN", "SYN", "RST", "PSH", "ACK", "URG")
_ADDRESSES = {4: (V4_BASE, V4_LAST), 6: (0, V4_BASE - 1)}
Literal = tuple[ir.Expr, bool]  # a test, and whether it has to be true or false


class CannotSay(Exception):
    """The tool has no words for this; the text says for what."""


def iptables(rules: Sequence[ir.Rule], sets: Mapping[str, ir.Set]) -> tuple[PeerFilter, ...]:
    """Lines for iptables-restore (-A PREROUTING … is put in front by the runtime), for each family. Raises CannotSay."""
    found = []
    for family in (4, 6):
        lines: list[str] = []
        numbers: list[int] = []
        for number, rule in enumerate(rules):
            try:
                said = list(dict.fromkeys(_iptables_lines(rule, family, sets)))
            except CannotSay as error:
                raise CannotSay(f"`{rule.text or rule.name}`: {error}") from None
            lines += said
            numbers += [number] * len(said)
        found.append(PeerFilter(IPTABLES, family, tuple(lines), tuple(numbers)))
    return tuple(found)


def xdp_filter(rules: Sequence[ir.Rule], default: str, sets: Mapping[str, ir.Set]) -> PeerFilter:
    """Its own commands: hosts and ports whose packets are dropped (or passed) alike. Raises CannotSay."""
    if len({rule.verdict for rule in rules}) != 1 or rules[0].verdict == default:
        raise CannotSay("it has one list, of what is not treated as all the rest")
    lines, numbers = [], []
    for number, rule in enumerate(rules):
        if rule.limit or rule.effects:
            raise CannotSay(f"`{rule.text or rule.name}`: it has no limits and no effects")
        said = [_xdp_filter_line(literals, sets) for literals in _alternatives(rule.when, True)]
        if not all(said) or not said:
            raise CannotSay(f"`{rule.text or rule.name}`: it lists single addresses and ports of TCP or UDP, each for itself")
        lines += [line for part in said for line in part]
        numbers += [number] * sum(map(len, said))
    return PeerFilter(XDP_FILTER, 0, tuple(lines), tuple(numbers))


def _alternatives(expr: ir.Expr, want: bool) -> list[list[Literal]]:
    """The ways in which the condition can hold; no packet of a measurement lacks a field that is asked for beside its protocol."""
    match expr:
        case ir.Const(value):
            return [[]] if value == want else []
        case ir.Not(item):
            return _alternatives(item, not want)
        case ir.And(items) | ir.Or(items):
            parts = [_alternatives(item, want) for item in items]
            if isinstance(expr, ir.And) != want:
                return [one for part in parts for one in part]
            return _bounded([[literal for part in each for literal in part] for each in product(*parts)])
    return [[(expr, want)]]


def _bounded(found: list[list[Literal]]) -> list[list[Literal]]:
    if len(found) > MAX_LINES:
        raise CannotSay(f"it would take more than {MAX_LINES} lines")
    return found


@dataclass(slots=True)
class _Match:
    """One conjunction as it is gathered. protos: those that are left; flags: (mask, value) of those TCP has to have; excluded: must not have."""

    family: int
    protos: set[int]
    values: dict[Field, ir.Ranges]
    flags: tuple[int, int] = (0, 0)
    excluded: tuple[int, int] | None = None


def _iptables_lines(rule: ir.Rule, family: int, sets: Mapping[str, ir.Set]) -> Iterator[str]:
    if rule.limit or rule.effects:
        raise CannotSay("limits and effects do not start alike there")
    for literals in _alternatives(rule.when, True):
        match = _Match(family, set(range(256)), {})
        if all(_gather(match, expr, want, sets) for expr, want in literals):
            yield from _spelled(match)


def _gather(match: _Match, expr: ir.Expr, want: bool, sets: Mapping[str, ir.Set]) -> bool:
    """Whether packets of this family can still meet it."""
    match expr:
        case ir.Is("ip4" | "ip6"):
            return (expr.kind == f"ip{match.family}") == want
        case ir.Is(kind) if kind in _PROTOS:
            if kind[:4] == "icmp" and kind != f"icmp{match.family}":
                return not want
            match.protos &= {_PROTOS[kind]} if want else set(range(256)) - {_PROTOS[kind]}
        case ir.Is("fragment" | "first-fragment" | "later-fragment" | "malformed" | "vlan" | "arp" | "nd" | "mld" | "l2"):
            return not want  # no flow of a measurement is one
        case ir.Bits(_, mask, value):
            return _flags(match, mask, value, want)
        case ir.Within(Field.PROTO, wanted):
            match.protos &= {n for n in range(256) if ranges.contains(wanted, n) == want}
        case ir.Within(field, wanted):
            return _narrow(match, field, wanted, want)
        case ir.Member(field, name) if sets[name].size is None:
            return _narrow(match, field, sets[name].ranges, want)
        case _:
            raise CannotSay("dynamic sets and connections do not start alike there")
    return bool(match.protos)


def _narrow(match: _Match, field: Field, wanted: ir.Ranges, want: bool) -> bool:
    if field in (Field.SRC, Field.DST):
        whole = (_ADDRESSES[match.family],)
    elif field in (Field.SPORT, Field.DPORT, Field.ICMP_TYPE, Field.ICMP_CODE):
        whole = ((0, (1 << ir.FIELD_BITS[field]) - 1),)
        match.protos &= set(_WITH_PORTS) if field in (Field.SPORT, Field.DPORT) else {_PROTOS[f"icmp{match.family}"]}
    else:
        raise CannotSay(f"`{field}` is not translated")
    inside = ranges.intersect(match.values.get(field, whole), wanted if want else ranges.subtract(whole, wanted))
    match.values[field] = inside
    return bool(inside) and bool(match.protos)


def _flags(match: _Match, mask: int, value: int, want: bool) -> bool:
    """A line has one match for flags: what has to be set or clear comes together, and a single bit that must not be so is the other way round."""
    match.protos &= {6}
    if mask >> len(_FLAGS):
        raise CannotSay("it knows no ECE and CWR")
    if not want and mask.bit_count() == 1:
        value, want = value ^ mask, True
    if want:
        both = match.flags[0] & mask
        clash = (match.flags[1] ^ value) & both
        match.flags = match.flags[0] | mask, match.flags[1] | value
        return not clash and bool(match.protos)
    if match.excluded is not None:
        raise CannotSay("it excludes one set of flags at a time")
    match.excluded = mask, value
    return bool(match.protos)


def _flag_words(match: _Match) -> str:
    if match.excluded is not None and match.flags[0]:
        raise CannotSay("it asks for flags and excludes others")
    asked = match.excluded or match.flags
    if not asked[0]:
        return ""
    names = [",".join(name for bit, name in enumerate(_FLAGS) if part >> bit & 1) or "NONE" for part in asked]
    return f"{'! ' if match.excluded else ''}--tcp-flags {names[0]} {names[1]}"


def _spelled(match: _Match) -> Iterator[str]:
    """A line for each protocol and each list of addresses and ports."""
    fields = [_field_words(match, field, values) for field, values in match.values.items()]
    protos = [""] if len(match.protos) == 256 else [f"-p {number}" for number in sorted(match.protos)]
    if len(protos) > 200:  # all but a few
        left = sorted(set(range(256)) - match.protos)
        if len(left) > 1:
            raise CannotSay("it excludes one protocol at a time")
        protos = [f"! -p {left[0]}"]
    lines = [" ".join(filter(None, parts)) for parts in product(protos, *fields, [_flag_words(match)])]
    if len(lines) > MAX_LINES:
        raise CannotSay(f"it would take {len(lines)} lines; sets would need ipset")
    yield from lines


def _field_words(match: _Match, field: Field, values: ir.Ranges) -> list[str]:
    if field in (Field.SRC, Field.DST):
        if values == (_ADDRESSES[match.family],):
            return [""]
        return [f"-{field[0]} {prefix}" for low, high in values for prefix in _prefixes(low, high, match.family)]
    if field in (Field.SPORT, Field.DPORT):
        if len(values) == 1:
            return [f"--{field} {values[0][0]}:{values[0][1]}"]
        spelled = [str(low) if low == high else f"{low}:{high}" for low, high in values]
        return [f"-m multiport --{field}s {','.join(spelled[at : at + _MAX_PORTS])}" for at in range(0, len(spelled), _MAX_PORTS)]
    return _icmp_words(match, field, values)


def _icmp_words(match: _Match, field: Field, values: ir.Ranges) -> list[str]:
    """Types and codes stand in one match: codes are put to their types."""
    whole = ((0, 255),)
    if field is Field.ICMP_CODE:
        if Field.ICMP_TYPE not in match.values:
            raise CannotSay("a code without a type")
        return [""]
    codes = match.values.get(Field.ICMP_CODE, whole)
    option = "--icmp-type" if match.family == 4 else "--icmpv6-type"
    types = [n for low, high in values for n in range(low, high + 1)]
    if codes == whole:
        return [f"{option} {n}" for n in types]
    return [f"{option} {n}/{code}" for n in types for low, high in codes for code in range(low, high + 1)]


def _prefixes(low: int, high: int, family: int) -> list[str]:
    base, bits, kind = (V4_BASE, 32, IPv4Address) if family == 4 else (0, 128, IPv6Address)
    return [f"{kind(value)}/{length}" for value, length in prefixes(low - base, high - base, bits)]


def _xdp_filter_line(literals: list[Literal], sets: Mapping[str, ir.Set]) -> list[str]:
    """The commands for one alternative; none where it has no words for it."""
    kinds = [expr.kind for expr, want in literals if isinstance(expr, ir.Is) and want]
    tests = [expr for expr, want in literals if isinstance(expr, ir.Within | ir.Member) and want]
    if len(kinds) + len(tests) != len(literals) or len(tests) != 1:
        return []
    field = tests[0].field
    members = tests[0].ranges if isinstance(tests[0], ir.Within) else sets[tests[0].set].ranges
    singles = [n for low, high in members for n in range(low, min(high, low + MAX_LINES) + 1)]
    if len(singles) > MAX_LINES or any(high - low > MAX_LINES for low, high in members):
        return []
    if field in (Field.SRC, Field.DST) and not kinds:
        return [f"ip {IPv4Address(n - V4_BASE) if n >= V4_BASE else IPv6Address(n)} -m {field}" for n in singles]
    if field in (Field.SPORT, Field.DPORT) and kinds in (["tcp"], ["udp"]):
        return [f"port {n} -p {kinds[0]} -m {'src' if field is Field.SPORT else 'dst'}" for n in singles]
    return []
