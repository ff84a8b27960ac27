"""The one typed IR. Everything between the checked policy and the lowerings is a Program.

Values are integers: addresses are ordinals of one ordered domain (IPv6 address a is a, IPv4 address a is 2**128 + a), times are
nanoseconds, rates are bits or packets a second, sizes are bytes. An expression is three-valued (LANGUAGE.md, meaning 2):
true, false or absent; a rule matches when its expression is true. `ir_text` prints and parses it, `ir_spec` says what is legal.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from compiler.source import NOWHERE, Span

V4_BASE = 1 << 128  # the ordinal of 0.0.0.0
V4_LAST = V4_BASE + (1 << 32) - 1
Ranges = tuple[tuple[int, int], ...]  # inclusive, ascending, disjoint, not adjacent


class Field(StrEnum):
    """What a packet may have; docs/packet-model.md says when it is absent. The number of bits is in FIELD_BITS."""

    ETH_SRC = "eth.src"
    ETH_DST = "eth.dst"
    ETHERTYPE = "ethertype"  # after the tags
    VLAN = "vlan"  # id of the outer tag, 0 when untagged
    VLAN_INNER = "vlan.inner"  # id of the second tag, 0 when there is none
    SRC = "src"  # address ordinal
    DST = "dst"
    PROTO = "proto"  # upper-layer protocol, behind IPv6 extension headers
    DSCP = "dscp"
    TTL = "ttl"  # IPv4 TTL, IPv6 hop limit
    LENGTH = "length"  # layer 3 length by the IP header, bytes
    SPORT = "sport"  # TCP, UDP, SCTP
    DPORT = "dport"
    TCP_FLAGS = "tcp.flags"
    ICMP_TYPE = "icmp.type"  # ICMP or ICMPv6: always used beside Is("icmp4") or Is("icmp6")
    ICMP_CODE = "icmp.code"


FIELD_BITS = {
    Field.ETH_SRC: 48, Field.ETH_DST: 48, Field.ETHERTYPE: 16, Field.VLAN: 12, Field.VLAN_INNER: 12, Field.SRC: 129,
    Field.DST: 129, Field.PROTO: 8, Field.DSCP: 6, Field.TTL: 8, Field.LENGTH: 17, Field.SPORT: 16, Field.DPORT: 16,
    Field.TCP_FLAGS: 8, Field.ICMP_TYPE: 8, Field.ICMP_CODE: 8,
}  # fmt: skip

KINDS = ("ip4", "ip6", "tcp", "udp", "sctp", "icmp4", "icmp6", "fragment", "first-fragment", "later-fragment",
         "malformed", "vlan", "arp", "nd", "mld", "l2")  # fmt: skip
CONTROL_KINDS = ("arp", "nd", "mld", "l2")
CONNECTION_STATES = ("new", "established", "related", "invalid")


@dataclass(frozen=True, slots=True)
class Const:
    value: bool


@dataclass(frozen=True, slots=True)
class Is:
    """A kind predicate: true or false, never absent."""

    kind: str


@dataclass(frozen=True, slots=True)
class Within:
    """The field's value lies in one of the ranges; absent when the field is."""

    field: Field
    ranges: Ranges


@dataclass(frozen=True, slots=True)
class Bits:
    """(value & mask) == value_wanted on TCP_FLAGS; absent when the field is."""

    field: Field
    mask: int
    value: int


@dataclass(frozen=True, slots=True)
class Member:
    """The field's value is in the named set (SRC, DST with address sets; SPORT, DPORT with port sets)."""

    field: Field
    set: str


@dataclass(frozen=True, slots=True)
class Connection:
    """Connection tracking says one of these states; absent for packets that are not IP."""

    states: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Not:
    item: Expr


@dataclass(frozen=True, slots=True)
class And:
    items: tuple[Expr, ...]


@dataclass(frozen=True, slots=True)
class Or:
    items: tuple[Expr, ...]


Expr = Const | Is | Within | Bits | Member | Connection | Not | And | Or


@dataclass(frozen=True, slots=True)
class Limit:
    """GCRA in ticks of 1/64 ns (TICKS_PER_NS): `interval` ticks a packet, `burst` packets deep, starting full.

    over: match what exceeds the rate instead of what keeps it. per: None, SRC or DST, cut to prefix lengths v4/v6.
    At most `size` keys have a bucket of their own; the others share one. The bucket is `name`'s and survives an apply.
    """

    name: str
    interval: int
    burst: int
    over: bool = False
    per: Field | None = None
    v4_prefix: int = 32
    v6_prefix: int = 64
    size: int = 65536


TICKS_PER_NS = 64


@dataclass(frozen=True, slots=True)
class Add:
    set: str
    field: Field
    timeout: int | None  # ns; None: the set's own
    renew: bool = False


@dataclass(frozen=True, slots=True)
class Sample:
    one_in: int


@dataclass(frozen=True, slots=True)
class Log:
    pass


@dataclass(frozen=True, slots=True)
class SetDscp:
    value: int


Effect = Add | Sample | Log | SetDscp


@dataclass(frozen=True, slots=True)
class Rule:
    """One line of a filter. `name` is short (ssh); the counter is <chain>.<name>. `text` is the source, for people.

    covered: the rules above that take every packet of it; then `when` is false, and no code is made of it (passes/drop_unreachable.py).
    """

    name: str
    verdict: str  # pass, drop
    when: Expr
    limit: Limit | None = None
    effects: tuple[Effect, ...] = ()
    text: str = ""
    span: Span = NOWHERE
    covered: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chain:
    """A filter block for one hook: direction in, out (nic) or forward (nic -> to). name: wan.in, wan.out, wan->lan.

    default_span: the `default` statement's own place, which its counter names.
    """

    name: str
    nic: str
    direction: str
    to: str | None
    rules: tuple[Rule, ...]
    default: str  # pass, drop
    span: Span = NOWHERE
    default_span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Set:
    """An address or port set. Static: `ranges`. Dynamic (`size` not None): entries come and go, each with a timeout."""

    name: str
    type: str  # address, port
    ranges: Ranges = ()
    size: int | None = None
    timeout: int | None = None  # ns; None: entries stay
    never: tuple[str, ...] = ()
    full: str = "keep"  # keep: refuse and count; evict: the oldest goes
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Nic:
    name: str
    device: str
    xdp: str = "native"  # native, generic, offload, none
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Target:
    """Where a flow goes. kind: queues, cpus (numbers), socket (name), nic (name; routed by the FIB), drop."""

    kind: str
    numbers: tuple[int, ...] = ()
    name: str = ""


LEAVES_THE_STACK = ("nic", "socket", "drop")  # targets whose packets no later stage sees


@dataclass(frozen=True, slots=True)
class SteerRule:
    name: str
    when: Expr
    target: Target
    prefer: bool = False
    text: str = ""
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Steer:
    """name: wan.steer. First match; no match and no default: the NIC's own choice."""

    name: str
    nic: str
    rules: tuple[SteerRule, ...]
    default: Target | None = None
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Queue:
    """One leaf qdisc to try: kind as tc names it, options in tc's names; times in ns, sizes in bytes or packets."""

    kind: str
    options: tuple[tuple[str, int | str], ...] = ()


@dataclass(frozen=True, slots=True)
class Class:
    """A traffic class; rates in bit/s. `when` None: the default class. Nested classes share their parent's rates."""

    name: str
    when: Expr | None
    min: int | None = None
    max: int | None = None
    share: int = 1
    urgent: bool = False
    queues: tuple[Queue, ...] = ()  # the first that the kernel has
    prefer_queue: bool = False
    classes: tuple[Class, ...] = ()
    text: str = ""
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Shape:
    """name: wan.shape.out. rate in bit/s of L2 bytes plus `overhead` a packet."""

    name: str
    nic: str
    direction: str
    rate: int
    overhead: int
    classes: tuple[Class, ...]
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Setting:
    """One knob. nic "" is the host. (group, key): ("channels","combined"), ("ring","rx"), ("coalesce","rx-usecs"),
    ("feature","gro"), ("hash","tcp4"), ("hash","symmetric"), ("hash","key"), ("rps","cpus"), ("rfs","flows"), ("irq","cpus"), ("sysctl","net.ipv4.tcp_rmem") ... values as ethtool
    and sysctl spell them; lists are tuples. prefer: skipped and shown where it cannot be had."""

    nic: str
    group: str
    key: str
    value: int | str | tuple[int | str, ...]
    prefer: bool = False
    text: str = ""
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Protect:
    nic: str
    when: Expr
    text: str = ""
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Assertion:
    """subject: a counter's full name (wan.in.ssh, wan.shape.out.voice) and what of it (packets, bytes, drops);
    op <, <=, =, >=, >; bound a number, or a fraction of the counter `of` (in.bogon packets < 5% of seen)."""

    counter: str
    what: str
    op: str
    bound: float
    of: str = ""
    text: str = ""
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Expect:
    nic: str
    window: int  # ns
    otherwise: str  # roll-back, warn
    assertions: tuple[Assertion, ...]
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class PacketSpec:
    """A packet in words: see compiler/frames.py, which builds the bytes. Attributes are (key, value) in source order."""

    proto: str
    src: str
    dst: str
    sport: int | None = None
    dport: int | None = None
    attributes: tuple[tuple[str, int | str], ...] = ()


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a test. kind packet (is verdict by rule), send (count over ns, gives verdict lo..hi), wait (ns), given."""

    kind: str
    nic: str = ""
    direction: str = "in"
    packet: PacketSpec | None = None
    verdict: str = ""
    rule: str = ""
    count: int = 1
    over: int = 0
    low: int = 0
    high: int = 0
    member: int = 0  # given: address ordinal
    set: str = ""
    text: str = ""
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Scenario:
    name: str
    steps: tuple[Step, ...]
    span: Span = NOWHERE


@dataclass(frozen=True, slots=True)
class Program:
    nics: tuple[Nic, ...] = ()
    sets: tuple[Set, ...] = ()
    chains: tuple[Chain, ...] = ()
    steers: tuple[Steer, ...] = ()
    shapes: tuple[Shape, ...] = ()
    settings: tuple[Setting, ...] = ()
    protects: tuple[Protect, ...] = ()
    expects: tuple[Expect, ...] = ()
    tests: tuple[Scenario, ...] = field(default=())
