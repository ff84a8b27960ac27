"""Random legal programs for differential tests: every predicate, nesting, sets, limits and effects. All from the caller's rng."""

from __future__ import annotations

from random import Random

from compiler import ir
from compiler.ir import Field as F
from compiler.ranges import normalize

V4_NETS = (0xC0000200, 0xCB007100, 0xC6336400, 0x0A000000)  # 192.0.2.0, 203.0.113.0, 198.51.100.0, 10.0.0.0
V6_NETS = (0x20010DB8 << 96, (0x20010DB8 << 96) | (1 << 80), 0xFE80 << 112, 0xFF02 << 112)
PORTS = (0, 1, 22, 53, 80, 443, 1024, 5353, 8080, 40000, 65534, 65535)
SECOND = 1_000_000_000
_NUMBERS = {  # field: the values around which ranges are drawn
    F.ETHERTYPE: (0x0800, 0x86DD, 0x0806, 0x8100, 0x88CC, 0x0600, 0x05FF), F.VLAN: (0, 1, 10, 4094, 4095),
    F.VLAN_INNER: (0, 1, 20, 4095), F.PROTO: (1, 2, 6, 17, 47, 50, 58, 59, 132, 255), F.DSCP: (0, 8, 46, 63),
    F.TTL: (0, 1, 64, 254, 255), F.LENGTH: (20, 28, 40, 48, 60, 100, 576, 1280, 1500, 65535), F.SPORT: PORTS, F.DPORT: PORTS,
    F.ETH_SRC: (0x020000000001, 0xFFFFFFFFFFFF), F.ETH_DST: (0x020000000002, 0x0180C2000000, 0x3333FF000001),
}  # fmt: skip
_ICMP_TYPES = (0, 3, 8, 11, 128, 129, 133, 135, 137, 143)
_PLAIN_KINDS = ("ip4", "ip6", "tcp", "udp", "sctp", "icmp4", "icmp6")
_FIELDS = (F.SRC, F.DST, F.SPORT, F.DPORT)


def random_program(rng: Random, *, plain: bool = False, tail: bool | None = None) -> ir.Program:
    """One nic `wan` with a chain `wan.in` of 1 to 12 rules, and the sets that they name.

    plain: only what every backend can say (no limits, dynamic sets, fragments, malformed, tags, MACs). tail: end in rules that ask
    connection tracking; None: one program in five does.
    """
    sets = _sets(rng, plain)
    count = rng.randint(1, 12)
    rules = [_rule(rng, index, sets, plain) for index in range(count)]
    if tail if tail is not None else rng.random() < 0.2:
        first = rng.randrange(count)
        rules[first:] = [_stateful_rule(rng, index, sets) for index in range(first, count)]
    chain = ir.Chain("wan.in", "wan", "in", None, tuple(rules), rng.choice(("pass", "drop")))
    return ir.Program(nics=(ir.Nic("wan", "wan0"),), sets=sets, chains=(chain,))


def _rule(rng: Random, index: int, sets: tuple[ir.Set, ...], plain: bool) -> ir.Rule:
    name = f"r{index}"
    when = expression(rng, sets, plain=plain)
    if plain:
        return ir.Rule(name, rng.choice(("pass", "drop")), when)
    limit = _limit(rng, f"wan.in.{name}") if rng.random() < 0.25 else None
    return ir.Rule(name, rng.choice(("pass", "drop")), when, limit, _effects(rng, sets))


def _stateful_rule(rng: Random, index: int, sets: tuple[ir.Set, ...]) -> ir.Rule:
    """A rule behind the early stage: it asks for the connection, or at least nothing that the stack does not show."""
    static = tuple(item for item in sets if item.size is None)
    when = expression(rng, static, plain=True)
    if rng.random() < 0.7:
        states = tuple(sorted(rng.sample(ir.CONNECTION_STATES, rng.randint(1, 2))))
        when = ir.And((ir.Connection(states), when)) if rng.random() < 0.5 else ir.Connection(states)
    return ir.Rule(f"r{index}", rng.choice(("pass", "drop")), when)


def expression(rng: Random, sets: tuple[ir.Set, ...], *, plain: bool = False, depth: int = 3) -> ir.Expr:
    """A random expression: half of them a plain conjunction, as people write; the others nested And, Or, Not."""
    choice = rng.random()
    if depth == 0 or choice < 0.3:
        return _leaf(rng, sets, plain)
    if choice < 0.5:
        return ir.Not(expression(rng, sets, plain=plain, depth=depth - 1))
    items = tuple(expression(rng, sets, plain=plain, depth=depth - 1) for _ in range(rng.randint(2, 3)))
    return ir.And(items) if choice < 0.75 else ir.Or(items)


def _leaf(rng: Random, sets: tuple[ir.Set, ...], plain: bool) -> ir.Expr:
    choice = rng.random()
    if choice < 0.25:
        return ir.Is(rng.choice(_PLAIN_KINDS if plain else ir.KINDS))
    if choice < 0.45 and sets:
        chosen = rng.choice(sets)
        return ir.Member(rng.choice((F.SRC, F.DST) if chosen.type == "address" else (F.SPORT, F.DPORT)), chosen.name)
    if choice < 0.55:
        mask = rng.choice((0x02, 0x12, 0x17, 0x04, 0x10, 0xFF))
        return ir.Bits(F.TCP_FLAGS, mask, rng.choice((0, 0x02, 0x10, 0x12, 0x04, 0xFF)) & mask)
    if choice < 0.65:
        return _icmp(rng)
    if choice < 0.68 and not plain:
        return ir.Const(rng.random() < 0.5)
    field = rng.choice((*_FIELDS, F.PROTO, F.DSCP, F.TTL, F.LENGTH) if plain else (*_FIELDS, *_FIELDS, *_NUMBERS))
    return ir.Within(field, _ranges(rng, field))


def _icmp(rng: Random) -> ir.Expr:
    kind = rng.choice(("icmp4", "icmp6"))
    parts: list[ir.Expr] = [ir.Is(kind), ir.Within(F.ICMP_TYPE, _around(rng, _ICMP_TYPES, 255))]
    if rng.random() < 0.3:
        parts.append(ir.Within(F.ICMP_CODE, _around(rng, (0, 1, 4), 255)))
    return ir.And(tuple(parts))


def _ranges(rng: Random, field: F) -> ir.Ranges:
    if field in (F.SRC, F.DST):
        return address_ranges(rng, rng.randint(1, 4))
    return _around(rng, _NUMBERS[field], (1 << ir.FIELD_BITS[field]) - 1)


def _around(rng: Random, values: tuple[int, ...], last: int) -> ir.Ranges:
    """One to three ranges that begin at interesting values."""
    firsts = [rng.choice(values) for _ in range(rng.randint(1, 3))]
    return normalize((first, min(last, first + rng.choice((0, 0, 1, 2, 10, last)))) for first in firsts)


def address_ranges(rng: Random, count: int) -> ir.Ranges:
    """Prefixes of both families; now and then the whole of one."""
    prefixes = []
    for _ in range(count):
        if rng.random() < 0.6:
            length = rng.choice((0, 8, 24, 25, 30, 31, 32, 32))
            first = (rng.choice(V4_NETS) + rng.randrange(256)) >> (32 - length) << (32 - length)
            prefixes.append((ir.V4_BASE + first, ir.V4_BASE + first + (1 << 32 - length) - 1))
        else:
            length = rng.choice((0, 32, 48, 63, 64, 65, 96, 127, 128, 128))
            first = (rng.choice(V6_NETS) + rng.randrange(256)) >> (128 - length) << (128 - length)
            prefixes.append((first, first + (1 << 128 - length) - 1))
    return normalize(prefixes)


def _sets(rng: Random, plain: bool) -> tuple[ir.Set, ...]:
    """Up to two address sets, a port set and two dynamic sets; one in ten static sets is empty."""
    sets = [
        ir.Set(name, "address", address_ranges(rng, rng.randint(1, 12)) if rng.random() < 0.9 else ())
        for name in ("office", "bogons")[: rng.randint(0, 2)]
    ]
    if rng.random() < 0.6:
        sets.append(ir.Set("web", "port", _around(rng, PORTS, 65535) if rng.random() < 0.9 else ()))
    never = tuple(item.name for item in sets if item.type == "address" and rng.random() < 0.4)
    for name in () if plain else ("banned", "seen-lately")[: rng.choice((0, 1, 1, 2))]:
        timeout = rng.choice((None, SECOND, 10 * SECOND, 1_000_000))
        sets.append(
            ir.Set(name, "address", (), rng.choice((1, 2, 5, 64)), timeout, never, rng.choice(("keep", "evict")))
        )
    return tuple(sets)


def _limit(rng: Random, name: str) -> ir.Limit:
    interval = 64 * SECOND // rng.choice((1, 10, 100, 1000, 20_000)) + rng.choice((0, 0, 1))
    per = rng.choice((None, F.SRC, F.SRC, F.DST))
    burst, size = rng.choice((1, 2, 5)), rng.choice((1, 2, 3, 6, 4096))
    return ir.Limit(
        name, interval, burst, rng.random() < 0.3, per, rng.choice((0, 16, 24, 31, 32)), rng.choice((0, 48, 64, 127, 128)), size
    )  # fmt: skip


def _effects(rng: Random, sets: tuple[ir.Set, ...]) -> tuple[ir.Effect, ...]:
    effects: list[ir.Effect] = []
    for item in sets:
        if item.size is not None and rng.random() < 0.25:
            timeout = rng.choice((None, None, SECOND, 3 * SECOND))
            effects.append(ir.Add(item.name, rng.choice((F.SRC, F.SRC, F.DST)), timeout, rng.random() < 0.3))
    return tuple(effects)
