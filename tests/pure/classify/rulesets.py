"""Random lists of many rules, and headers on, just outside and between their boundaries. All from the caller's rng."""

from __future__ import annotations

from random import Random

from compiler import ir
from compiler.ir import V4_BASE, V4_LAST
from compiler.ir import Field as F

Header = tuple[dict[F, int], frozenset[str]]
_PROTOS = {"tcp": 6, "udp": 17}


def random_atom(rng: Random) -> ir.Ranges:
    """A range of addresses as rules and sets have them: prefixes, the ends of both families, one that spans both."""
    choice = rng.random()
    if choice < 0.02:
        return ((rng.choice((0, V4_BASE - 5, V4_BASE - 1)), rng.choice((V4_BASE, V4_BASE + 7, V4_LAST))),)
    if choice < 0.06:
        value = rng.choice((0, V4_BASE - 1, V4_BASE, V4_LAST))
        return ((value, value),)
    if choice < 0.6:
        bits, size, first = rng.choice((8, 16, 20, 24, 28, 32)), 32, V4_BASE + (10 << 24) + rng.getrandbits(rng.choice((6, 12, 24)))
    else:
        bits, size, first = rng.choice((16, 32, 48, 64, 65, 96, 128)), 128, (0x20010DB8 << 96) + (rng.getrandbits(6) << 80) + rng.getrandbits(rng.choice((3, 64)))
    base = V4_BASE if size == 32 else 0
    first = base + (first - base >> (size - bits) << (size - bits))
    return ((first, first + (1 << size - bits) - 1),)


def random_rules(rng: Random, count: int, broad: float) -> list[ir.Rule]:
    """`broad`: the share of rules that name wide prefixes alone."""
    rules, lengths = [], count if broad == 1 else 6
    for number in range(count):
        wide = rng.random() < broad
        parts: list[ir.Expr] = []
        for field in (F.SRC, F.DST):
            if rng.random() < 0.8:
                first = (rng.randrange(16) << 28) + V4_BASE if rng.random() < 0.5 else rng.randrange(32) << 123
                parts.append(ir.Within(field, ((first, first + (1 << (28 if first >= V4_BASE else 123)) - 1),) if wide else random_atom(rng)))
        if rng.random() < 0.6:
            parts.append(ir.Is(rng.choice(("tcp", "udp"))))
            first = rng.choice((0, 22, 53, 1024, 65535, 64 * rng.randrange(16)))
            parts.append(ir.Within(rng.choice((F.SPORT, F.DPORT)), ((first, min(65535, first + rng.choice((0, 1, 100)))),)))
        if len(parts) < 2 or (wide and len(parts) < 4 and rng.random() < 0.95):
            parts.append(ir.Within(F.LENGTH, ((100 + number % lengths, 101 + number % lengths),) if wide else ((100, 500),)))
        rules.append(ir.Rule(f"r{number}", rng.choice(("pass", "drop")), ir.And(tuple(parts))))
    return rules


def near(rng: Random, ranges: ir.Ranges, last: int) -> int:
    """A value on, one inside or one outside of an end of one of the ranges; sometimes within."""
    low, high = rng.choice(ranges)
    value = rng.choice((low - 1, low, low, low + 1, high - 1, high, high, high + 1, rng.randint(low, high)))
    return min(max(value, 0), last)


def headers(rng: Random, rules: list[ir.Rule], count: int) -> list[Header]:
    """Packets of one rule's wishes, completed by another's; addresses of one family, sometimes no ports, sometimes no IP."""
    found: list[Header] = []
    for _ in range(count):
        fields: dict[F, int] = {F.LENGTH: rng.randrange(99, 110), F.SPORT: rng.randrange(65536), F.DPORT: rng.choice((22, 53, 80))}
        proto = "udp"
        for rule in (rng.choice(rules), rng.choice(rules)) if rng.random() < 0.3 else (rng.choice(rules),):
            for item in rule.when.items:  # type: ignore[union-attr]
                if isinstance(item, ir.Is):
                    proto = item.kind
                elif isinstance(item, ir.Within):
                    last = V4_LAST if item.field in (F.SRC, F.DST) else (1 << ir.FIELD_BITS[item.field]) - 1
                    fields[item.field] = near(rng, item.ranges, last)
        v4 = fields.get(F.SRC, fields.get(F.DST, 0)) >= V4_BASE
        for field in (F.SRC, F.DST):
            if field not in fields or (fields[field] >= V4_BASE) != v4:
                fields[field] = V4_BASE + rng.getrandbits(32) if v4 else rng.getrandbits(128)
        kinds = {"ip4" if v4 else "ip6", proto}
        if rng.random() < 0.05:
            kinds, fields = {kinds.pop()}, {F.SRC: fields[F.SRC], F.DST: fields[F.DST], F.LENGTH: fields[F.LENGTH]}
            kinds = {"ip4" if v4 else "ip6"}
        elif rng.random() < 0.02:
            kinds, fields = {"malformed"}, {}
        found.append((fields, frozenset(kinds)))
    return found
