"""Rules out of few tests, so that many of them cover one another, and packets of every sort for them."""

from __future__ import annotations

from random import Random

from compiler import ir
from compiler.ir import V4_BASE, Field
from tests.differential.packets import boundary_packets

NET = V4_BASE + (198 << 24 | 51 << 16 | 100 << 8)
SETS = (
    ir.Set("near", "address", ((NET, NET + 255),)),
    ir.Set("empty", "port"),
    ir.Set("banned", "address", size=8, never=("near",)),
)
_TESTS: tuple[ir.Expr, ...] = (
    *map(ir.Is, ("ip4", "ip6", "tcp", "udp", "icmp4", "icmp6", "fragment", "first-fragment", "later-fragment", "malformed", "vlan", "arp", "nd", "mld", "l2")),
    *(ir.Within(Field.DPORT, (pair,)) for pair in ((0, 79), (80, 80), (81, 65535), (0, 1023), (1024, 65535), (0, 65535))),
    *(ir.Within(Field.SRC, (pair,)) for pair in ((0, V4_BASE - 1), (V4_BASE, ir.V4_LAST), (NET, NET + 127), (NET + 128, NET + 255), (NET, NET + 255))),
    ir.Within(Field.ICMP_TYPE, ((130, 137),)), ir.Within(Field.ICMP_TYPE, ((135, 135),)), ir.Within(Field.TTL, ((255, 255),)),
    ir.Within(Field.ETHERTYPE, ((0x88CC, 0x88CC),)), ir.Within(Field.VLAN, ((0, 0),)),
    ir.Bits(Field.TCP_FLAGS, 2, 2), ir.Bits(Field.TCP_FLAGS, 2, 0),
    ir.Member(Field.SRC, "near"), ir.Member(Field.DPORT, "empty"), ir.Member(Field.SRC, "banned"), ir.Const(True),
)  # fmt: skip


def program(rng: Random, count: int = 12, stateful: bool = False) -> ir.Program:
    """A filter of so many rules."""
    rules = tuple(_rule(rng, number) for number in range(count))
    if stateful:
        at = rng.randrange(count)
        known = ir.Rule(f"r{at}", "pass", ir.Connection(("established",)))
        rules = (*rules[:at], known, *rules[at + 1 :])
    chain = ir.Chain("wan.in", "wan", "in", None, rules, rng.choice(("pass", "drop")))
    return ir.Program((ir.Nic("wan", "w"),), SETS, (chain,))


def packets(made: ir.Program, rng: Random, count: int) -> list[bytes]:
    """Packets at the policy's boundaries, a third of them cut off somewhere."""
    whole = boundary_packets(made, rng, count)
    return [frame if rng.random() < 0.67 else frame[: rng.randint(14, len(frame))] for frame in whole]


def _rule(rng: Random, number: int) -> ir.Rule:
    when = _conjunction(rng) if rng.random() < 0.8 else ir.Or((_conjunction(rng), _conjunction(rng)))
    limit = ir.Limit(f"wan.in.r{number}", 64 * 10**6, 2) if rng.random() < 0.1 else None
    effects = (ir.Add("banned", Field.SRC, None),) if rng.random() < 0.1 else ()
    return ir.Rule(f"r{number}", rng.choice(("pass", "drop")), when, limit, effects, text=f"rule {number}")


def _conjunction(rng: Random) -> ir.Expr:
    items = tuple(rng.sample(_TESTS, rng.choice((1, 1, 2, 2, 3))))
    items = tuple(ir.Not(item) if rng.random() < 0.15 else item for item in items)
    return items[0] if len(items) == 1 else ir.And(items)
