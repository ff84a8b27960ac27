"""A thousand policies that cut a protected flow, all refused with the rule that does; a thousand that miss it by one, all accepted.

Both are made by construction, in the language's words: a policy that is right, and one rule more (or another one) of which it is known that it cuts, or
that it differs from such a one by one address, port, nic, direction, place or member. The prover is not asked while they are made. Half of the
flows are a policy's own `protect`s, half the connection that a command is run over.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from pathlib import Path

import pytest

from compiler.also_protect import Flow
from compiler.diagnostics import CompileError, Diagnostic
from compiler.pipeline import check
from compiler.source import Sources

EACH = 1000
Network = IPv4Network | IPv6Network


@dataclass(frozen=True, slots=True)
class Case:
    """What is protected: `proto` from `client` to `local`, `port`. over_ssh: not by the policy."""

    random: random.Random
    proto: str
    client: Network
    local: Network
    port: int
    over_ssh: bool

    @property
    def flow(self) -> str:
        return f"{self.proto} dport {self.port} src {words(self.client)} dst {words(self.local)}"

    @property
    def answer(self) -> str:
        return f"{self.proto} sport {self.port} dst {words(self.client)} src {words(self.local)}"

    @property
    def part(self) -> Network:
        """Some of the client's addresses."""
        longer = self.random.randint(self.client.prefixlen, self.client.max_prefixlen)
        bits = self.random.getrandbits(longer - self.client.prefixlen) if longer > self.client.prefixlen else 0
        return type(self.client)((int(self.client.network_address) + (bits << self.client.max_prefixlen - longer), longer))

    @property
    def beside(self) -> Network:
        """The other half of the network around the client's: its prefix differs in the last bit."""
        return type(self.client)((int(self.client.network_address) ^ 1 << self.client.max_prefixlen - self.client.prefixlen, self.client.prefixlen))


def words(network: Network) -> str:
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


@dataclass(frozen=True, slots=True)
class Policy:
    """first: wan's rules before the one that passes the flow; passes: that one; last: behind it; more: other statements. cut: the line that is to be named."""

    first: tuple[str, ...] = ()
    passes: tuple[str, ...] | None = None
    last: tuple[str, ...] = ()
    out: tuple[str, ...] = ()
    lan: tuple[str, ...] = ()
    more: str = ""
    default: str = "drop"
    cut: str = ""

    def text(self, case: Case) -> str:
        passes = (f"pass {case.flow} as wanted",) if self.passes is None else self.passes
        noise = NOISE[: case.random.randrange(len(NOISE))]
        before, after = noise[::2], noise[1::2]
        lines = ["nic wan { device eth0 }", "nic lan { device eth1 }", self.more]
        lines += [] if case.over_ssh else [f"protect wan {{ {case.flow} }}"]
        lines += ["filter wan in {", *before, *self.first, *passes, *after, *self.last, f"default {self.default}", "}"]
        lines += ["filter wan out {", *self.out, "default pass", "}", "filter lan in {", *self.lan, "default drop", "}"]
        return "\n".join(lines) + "\n"


# Of other ports, protocols and fields than any flow has: nothing here is near.
NOISE = ["drop udp dport 30000-30009 as n0", "pass icmp echo-request limit 5pps as n1", "drop tcp dport 30010 syn as n2", "drop sctp dport { 30011, 30012 } as n3",
         "pass udp sport 30013 over 10kpps as n4", "drop udp dport 30014 dscp ef as n5", "drop tcp dport 30015 flags fin, urg, psh as n6", "drop proto gre as n7"]  # fmt: skip

Pair = tuple[Policy, Policy]


def an_address(case: Case) -> Pair:
    cut, miss = (f"drop {rest} as x" for rest in (f"src {words(case.part)}", f"src {words(case.beside)}"))
    return Policy((cut,), cut=cut), Policy((miss,))


def where_it_goes(case: Case) -> Pair:
    other = type(case.local)((int(case.local.network_address) ^ 1, case.local.max_prefixlen))
    cut, miss = f"drop dst {words(case.local)} as x", f"drop dst {other} as x"
    return Policy((cut,), cut=cut), Policy((miss,))


def a_port(case: Case) -> Pair:
    cut, miss = f"drop {case.proto} dport {case.port} as x", f"drop {case.proto} dport {case.port + case.random.choice((-1, 1))} as x"
    return Policy((cut,), cut=cut), Policy((miss,))


def the_end_of_a_range(case: Case) -> Pair:
    low = case.port - case.random.randint(1, 20)
    cut, miss = f"drop {case.proto} dport {low}-{case.port} as x", f"drop {case.proto} dport {low}-{case.port - 1} as x"
    return Policy((cut,), cut=cut), Policy((miss,))


def a_bound(case: Case) -> Pair:
    cut, miss = f"drop {case.proto} dport >= {case.port} as x", f"drop {case.proto} dport > {case.port} as x"
    return Policy((cut,), cut=cut), Policy((miss,))


def a_transport(case: Case) -> Pair:
    other = case.random.choice([proto for proto in ("tcp", "udp", "sctp") if proto != case.proto])
    cut = f"drop {case.proto} as x"
    return Policy((cut,), cut=cut), Policy((f"drop {other} as x",))


def a_family(case: Case) -> Pair:
    own, other = ("ip4", "ip6") if case.client.version == 4 else ("ip6", "ip4")
    cut = f"drop {own} as x"
    return Policy((cut,), cut=cut), Policy((f"drop {other} as x",))


def a_nic(case: Case) -> Pair:
    rule = f"drop {case.proto} dport {case.port} as x"
    return Policy((rule,), cut=rule), Policy(lan=(rule,))


def a_place(case: Case) -> Pair:
    rule = f"drop src {words(case.part)} as x"
    return Policy((rule,), cut=rule), Policy(last=(rule,))


def a_reply(case: Case) -> Pair:
    cut, miss = f"drop {case.answer} as x", f"drop {case.flow} as x"
    return Policy(out=(cut,), cut=cut), Policy(out=(miss,))


def a_replys_port(case: Case) -> Pair:
    cut, miss = (f"drop {case.proto} sport {port} dst {words(case.part)} as x" for port in (case.port, case.port - 1))
    return Policy(out=(cut,), cut=cut), Policy(out=(miss,))


def a_state(case: Case) -> Pair:
    rule = f"drop {case.random.choice(('invalid', 'new', 'related'))} as x"
    return Policy((rule,), cut=rule), Policy(last=(rule,))


def a_limit(case: Case) -> Pair:
    limited = f"pass {case.flow} {case.random.choice(('limit', 'over'))} {case.random.randint(1, 999)}kpps as x"
    return Policy(passes=(limited,), cut="filter wan in {"), Policy(first=(limited,))


def a_drop_over(case: Case) -> Pair:
    cut, miss = (f"drop {case.proto} dport {port} over 100kpps as x" for port in (case.port, case.port + 1))
    return Policy((cut,), cut=cut), Policy((miss,))


def a_pass_that_is_too_narrow(case: Case) -> Pair:
    cut = (f"pass {case.proto} dport {case.port + 1} as x", f"pass {case.flow} sport 1-65535 as y")
    return Policy(passes=cut, cut="filter wan in {"), Policy(passes=(f"pass {case.flow} sport 0 as x", f"pass {case.flow} sport 1-65535 as y"))


def a_default(case: Case) -> Pair:
    return Policy(passes=(), cut="filter wan in {"), Policy(passes=(), default="pass")


def a_set_that_grows(case: Case) -> Pair:
    rule = "drop src in grown as x"
    grows = "set grown : address timeout 10m"
    cut = Policy((rule,), more=grows, cut=rule)
    return cut, Policy((rule,), more=f"set safe = {{ {words(case.client)}, 203.0.113.77 }}\n{grows} never safe")


def a_set_that_never_takes_most(case: Case) -> Pair:
    """The set that `never` names lacks the flow's last address."""
    rule = "drop src in grown as x"
    low, high = int(case.client.network_address), int(case.client.broadcast_address)
    address = type(case.client.network_address)
    safe = f"{address(low - 1)}-{address(high - 1)}"
    whole = f"{address(low - 1)}-{address(high)}"
    cut, miss = (f"set safe = {{ {members} }}\nset grown : address timeout 10m never safe" for members in (safe, whole))
    return Policy((rule,), more=cut, cut=rule), Policy((rule,), more=miss)


def a_member(case: Case) -> Pair:
    rule = "drop src in bad as x"
    cut, miss = (f"set bad = {{ 203.0.113.77, {words(network)} }}" for network in (case.part, case.beside))
    return Policy((rule,), more=cut, cut=rule), Policy((rule,), more=miss)


def a_socket(case: Case) -> Pair:
    cut, miss = (f"{case.proto} dport {port} to socket capture as s" for port in (case.port, case.port + 1))
    steer = "steer wan {{\n{}\n}}"
    return Policy(more=steer.format(cut), cut=cut), Policy(more=steer.format(miss))


def another_nic(case: Case) -> Pair:
    cut, miss = (f"dst {words(network)} to nic lan routed as s" for network in (case.local, type(case.local)((int(case.local.network_address) ^ 1, case.local.max_prefixlen))))
    steer = "steer wan {{\n{}\n}}"
    return Policy(more=steer.format(cut), cut=cut), Policy(more=steer.format(miss))


def a_default_target(case: Case) -> Pair:
    rule = f"{case.proto} dport {case.port} to cpu 0 as s\n"
    cut = "steer wan {\ndefault to socket capture\n}"
    return Policy(more=cut, cut="steer wan {"), Policy(more=f"steer wan {{\n{rule}default to socket capture\n}}")


def a_fragment(case: Case) -> Pair:
    cut = f"drop {case.random.choice(('fragment', 'first-fragment'))} as x"
    return Policy((cut,), cut=cut), Policy(("drop later-fragment as x",))


def negations(case: Case) -> Pair:
    cut, miss = f"drop not dst {words(case.beside)} as x", f"drop {case.proto} not dport {case.port} as x"
    return Policy((cut,), cut=cut), Policy((miss,))


def forwarding(case: Case) -> Pair:
    """The promise ends at the host's stack: what it routes on is another matter."""
    cut = f"drop {case.flow} as x"
    return Policy((cut,), cut=cut), Policy(more=f"filter wan -> lan {{ {cut}; default drop }}")


KINDS: tuple[Callable[[Case], Pair], ...] = (
    an_address, where_it_goes, a_port, the_end_of_a_range, a_bound, a_transport, a_family, a_nic, a_place, a_reply, a_replys_port, a_state, a_limit,
    a_drop_over, a_pass_that_is_too_narrow, a_default, a_set_that_grows, a_set_that_never_takes_most, a_member, a_socket, another_nic, a_default_target,
    a_fragment, negations, forwarding,
)  # fmt: skip


def made(number: int) -> tuple[Case, Pair]:
    rng = random.Random(f"lockout {number}")
    over_ssh = bool(number % 2)
    six = rng.random() < 0.3
    client_length = (128 if six else 32) if over_ssh else rng.randint(*((33, 128) if six else (9, 32)))
    base = "2001:db8:7::/48" if six else "100.64.0.0/10"
    client = _within(rng, base, client_length)
    local = _within(rng, "2001:db8:1::/64" if six else "192.0.2.0/24", 128 if six else 32)
    proto = "tcp" if over_ssh else rng.choice(("tcp", "udp", "sctp"))
    case = Case(rng, proto, client, local, rng.randint(100, 29000), over_ssh)
    return case, KINDS[number % len(KINDS)](case)


def _within(rng: random.Random, base: str, length: int) -> Network:
    around = ip_network(base)
    if length <= around.prefixlen:
        length = around.prefixlen + 1
    bits = 1 + rng.getrandbits(length - around.prefixlen) % ((1 << length - around.prefixlen) - 1)  # not the first: one below is in the space, too
    return type(around)((int(around.network_address) + (bits << around.max_prefixlen - length), length))


def judged(case: Case, policy: Policy, folder: Path) -> tuple[list[Diagnostic], str]:
    """The errors, and the policy's text."""
    path, text = folder / "p.netc", policy.text(case)
    path.write_text(text)
    also = Flow(str(case.client.network_address), str(case.local.network_address), case.port, ("ens1",), {"wan": "ens1"}) if case.over_ssh else None
    try:
        check(path, Sources(), also)
    except CompileError as error:
        return [found for found in error.diagnostics if found.is_error], text
    return [], text


@pytest.mark.parametrize("part", range(10))
def test_policies_that_cut_are_refused_with_what_cuts(tmp_path: Path, part: int) -> None:
    for number in range(part * EACH // 10, (part + 1) * EACH // 10):
        case, (cut, _) = made(number)
        found, text = judged(case, cut, tmp_path)
        assert found and {each.code for each in found} <= {"N601", "N602", "N603"}, f"{number}: {found}\n{text}"
        places = [each.span if case.over_ssh else each.notes[0][0] for each in found]
        assert cut.cut in {text.split("\n")[place.line - 1] for place in places}, f"{number}: {found}\n{text}"


@pytest.mark.parametrize("part", range(10))
def test_policies_that_miss_by_one_are_accepted(tmp_path: Path, part: int) -> None:
    for number in range(part * EACH // 10, (part + 1) * EACH // 10):
        case, (_, miss) = made(number)
        found, text = judged(case, miss, tmp_path)
        assert not found, f"{number}: {found}\n{text}"
