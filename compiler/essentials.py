"""`use essentials`: the rules that nearly every stateful filter ends with. They are ordinary, visible rules with counters of their own.

established and related are connection tracking's. DHCP replies need rules of their own: their request goes to a broadcast or multicast
address, so that connection tracking does not know the answer (RFC 2131 §4.1: server port 67, client 68; RFC 8415 §7.2: 547, 546).
"""

from __future__ import annotations

from compiler import ir
from compiler.ir import Field
from compiler.source import Span


def _ports(kind: str, source: int, destination: int) -> ir.Expr:
    return ir.And(
        (
            ir.Is(kind),
            ir.Is("udp"),
            ir.Within(Field.SPORT, ((source, source),)),
            ir.Within(Field.DPORT, ((destination, destination),)),
        )
    )


_RULES: tuple[tuple[str, str, ir.Expr], ...] = (
    ("established", "pass established", ir.Connection(("established",))),
    ("related", "pass related", ir.Connection(("related",))),
    ("dhcp", "pass ip4 udp sport 67 dport 68", _ports("ip4", 67, 68)),
    ("dhcp6", "pass ip6 udp sport 547 dport 546", _ports("ip6", 547, 546)),
)
NAMES = tuple(name for name, _, _ in _RULES)


def rules(span: Span) -> tuple[ir.Rule, ...]:
    """The rules, placed where the policy says `use essentials`."""
    return tuple(ir.Rule(name, "pass", when, text=text, span=span) for name, text, when in _RULES)
