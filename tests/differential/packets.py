"""Frames at the boundaries of a policy, with everything that goes wrong on a wire. All from the caller's rng.

A frame begins as wishes (field: value) taken from one rule's boundaries; the rest is drawn from small pools, so that sources come
back and limits and sets fill up. Then tags, IPv4 options, IPv6 extension headers, fragments, wrong lengths and truncation are put on.
"""

from __future__ import annotations

import struct
from random import Random

from compiler import ir
from compiler.ir import V4_BASE
from compiler.ir import Field as F
from tests.differential.boundaries import Boundaries, boundary_test, of_expression, of_program
from tests.differential.policies import PORTS, V4_NETS, V6_NETS

BOUNDARY_SHARE = 0.94  # of the frames before truncation; the promise is 0.8
TRIES = 12  # how often a frame is built anew when the wished values did not go together
MOST_PAYLOAD = 1400
EXTENSIONS = (0, 43, 60, 135, 139, 140, 51, 44)
_KIND_PROTO = {"tcp": 6, "udp": 17, "sctp": 132, "icmp4": 1, "icmp6": 58}
Wishes = dict[F, int]


def boundary_packets(program: ir.Program, rng: Random, n: int) -> list[bytes]:
    """`n` frames of at least 14 bytes; every tenth is truncated, at lengths that go round from 14 up."""
    sets = {item.name: item for item in program.sets}
    rules = [of_expression(rule.when, sets) for chain in program.chains for rule in chain.rules]
    fruitful = [rule for rule in rules if any(rule.values.values())] or rules
    whole = of_program(program)
    on_boundary = boundary_test(program)
    frames: list[bytes] = []
    cut = 14
    for index in range(n):
        if rng.random() < BOUNDARY_SHARE:
            tries = (_frame(rng, *_wishes(rng, rng.choice(fruitful), whole)) for _ in range(TRIES))
            frame = next((frame for frame in tries if on_boundary(frame)), None) or _frame(rng, {}, ())
        else:
            frame = _frame(rng, {}, ()) if rng.random() < 0.9 else rng.randbytes(rng.randint(14, 90))
        if index % 10 == 9:
            frame, cut = frame[:cut], 14 if cut >= min(len(frame), 160) else cut + 1
        frames.append(frame)
    return frames


def times(program: ir.Program, rng: Random, n: int) -> list[int]:
    """`n` rising times (ns, from 1 s on) whose gaps are on, just under and just over the policy's intervals and timeouts."""
    gaps = [0, 0, 0, 1, 1000, 1_000_000]
    for chain in program.chains:
        for rule in chain.rules:
            if rule.limit:
                gaps += [rule.limit.interval // 64 + delta for delta in (-1, 0, 1)]
    for item in program.sets:
        if item.timeout:
            gaps += [item.timeout + delta for delta in (-1, 0)]
    now, found = 1_000_000_000, []
    for _ in range(n):
        now += rng.choice(gaps[:6]) if rng.random() < 0.8 else rng.choice(gaps)
        found.append(now)
    return found


def _wishes(rng: Random, rule: Boundaries, whole: Boundaries) -> tuple[Wishes, tuple[str, ...]]:
    """Values for the fields that a rule tests, some from other rules; and the kinds that it names."""
    wishes = {name: rng.choice(values) for name, values in rule.values.items() if values and rng.random() < 0.9}
    if not wishes:
        wishes = {name: rng.choice(values) for name, values in rule.values.items() if values}
    for name, values in whole.values.items():
        if name not in wishes and values and rng.random() < 0.3:
            wishes[name] = rng.choice(values)
    kinds = rule.kinds if rng.random() < 0.85 else whole.kinds
    return wishes, tuple(rng.sample(kinds, min(len(kinds), rng.randint(0, 2))))


def _frame(rng: Random, wishes: Wishes, kinds: tuple[str, ...]) -> bytes:
    """One frame that has the wished values wherever they go together."""
    wants_l3 = wishes.keys() & {
        F.SRC,
        F.DST,
        F.SPORT,
        F.DPORT,
        F.PROTO,
        F.TTL,
        F.DSCP,
        F.LENGTH,
        F.TCP_FLAGS,
        F.ICMP_TYPE,
    }
    link = next((kind for kind in kinds if kind in ("arp", "l2")), None)
    if link is None and not wants_l3 and rng.random() < 0.06:
        link = rng.choice(("arp", "l2"))
    if F.ETHERTYPE in wishes and (not wants_l3 or rng.random() < 0.5):
        return _ethernet(rng, wishes, kinds, wishes[F.ETHERTYPE], rng.randbytes(rng.randint(0, 60)))
    if link and (not wants_l3 or rng.random() < 0.5):
        return _link(rng, wishes, kinds, link)
    version = _version(rng, wishes, kinds)
    wishes = _same_family(wishes, version)
    proto = _proto(rng, wishes, kinds, version)
    body = _transport(rng, wishes, kinds, proto, version)
    packet = (_ipv4 if version == 4 else _ipv6)(rng, wishes, kinds, proto, body)
    if rng.random() < 0.2:
        packet += bytes(rng.randint(1, 20))
    return _ethernet(rng, wishes, kinds, 0x0800 if version == 4 else 0x86DD, packet)


def _link(rng: Random, wishes: Wishes, kinds: tuple[str, ...], kind: str) -> bytes:
    if kind == "arp":
        return _ethernet(rng, wishes, kinds, 0x0806, bytes.fromhex("0001080006040001") + rng.randbytes(20))
    ethertype = rng.choice((0x88CC, 0x8809, 0x888E, 0x0026, 0x05FF, 0x0600))
    if ethertype < 0x0700 and rng.random() < 0.8:
        wishes = {F.ETH_DST: 0x0180C2000000, **wishes}
    return _ethernet(rng, wishes, kinds, ethertype, rng.randbytes(46))


def _version(rng: Random, wishes: Wishes, kinds: tuple[str, ...]) -> int:
    """4 or 6, as addresses and kinds ask for."""
    if set(kinds) & {"ip4", "icmp4"}:
        return 4
    if set(kinds) & {"ip6", "icmp6", "nd", "mld"}:
        return 6
    asked = [wishes[name] for name in (F.SRC, F.DST) if name in wishes]
    if asked:
        return 4 if rng.choice(asked) >= V4_BASE else 6
    return rng.choice((4, 4, 6))


def _same_family(wishes: Wishes, version: int) -> Wishes:
    return {k: v for k, v in wishes.items() if k not in (F.SRC, F.DST) or (v >= V4_BASE) == (version == 4)}


def _proto(rng: Random, wishes: Wishes, kinds: tuple[str, ...], version: int) -> int:
    for kind in kinds:
        if kind in _KIND_PROTO:
            return _KIND_PROTO[kind]
        if kind in ("nd", "mld"):
            return 58
    if F.PROTO in wishes:
        return wishes[F.PROTO]
    if F.TCP_FLAGS in wishes and rng.random() < 0.8:
        return 6
    if F.ICMP_TYPE in wishes and rng.random() < 0.8:
        return 1 if version == 4 else 58
    if F.SPORT in wishes or F.DPORT in wishes:
        return rng.choice((6, 17, 17, 132))
    return rng.choice(
        (6, 6, 17, 17, 132, 1 if version == 4 else 58, 58 if version == 4 else 1, 47, 59, rng.randrange(256))
    )


def _transport(rng: Random, wishes: Wishes, kinds: tuple[str, ...], proto: int, version: int) -> bytes:
    """The transport header and payload; a wished length is made with the payload where that can be."""
    payload = rng.randbytes(rng.choice((0, 0, 1, 8, 30, 200)))
    ports = struct.pack("!HH", wishes.get(F.SPORT, rng.choice(PORTS)), wishes.get(F.DPORT, rng.choice(PORTS)))
    if proto == 6:
        words = rng.choice((5,) * 16 + (6, 6, 4, 15))
        payload = bytes(4 if words == 6 else 0) + payload
        head = ports + rng.randbytes(8) + bytes((words << 4, wishes.get(F.TCP_FLAGS, rng.choice((2, 16, 18, 4, 1, 0)))))
        head += rng.randbytes(6)
    elif proto == 17:
        head = ports
    elif proto == 132:
        head = ports + rng.randbytes(8)
    elif proto in (1, 58):
        known = (0, 3, 8, 11) if version == 4 else (128, 129, 1, *range(130, 139), 143)
        kind = wishes.get(F.ICMP_TYPE, rng.choice(known))
        if "nd" in kinds or "mld" in kinds:
            kind = rng.choice((132, 133, 134, 135, 136, 137, 138) if "nd" in kinds else (129, 130, 131, 132, 143, 142))
        head = bytes((kind, wishes.get(F.ICMP_CODE, rng.choice((0, 0, 1, 4))))) + rng.randbytes(6)
    else:
        head = b""
    if F.LENGTH in wishes:
        wanted = wishes[F.LENGTH] - (20 if version == 4 else 40) - len(head) - (4 if proto == 17 else 0)
        payload = bytes(wanted) if 0 <= wanted <= MOST_PAYLOAD else payload
    if proto == 17:
        right = 8 + len(payload)
        length = right if rng.random() < 0.9 else rng.choice((0, 7, 8, max(0, right - 1), right + 1, 65535))
        head += struct.pack("!HH", length, rng.randrange(65536))
    body = head + payload
    return body if rng.random() < 0.97 else body[: rng.randint(0, len(body))]


def _ipv4(rng: Random, wishes: Wishes, kinds: tuple[str, ...], proto: int, body: bytes) -> bytes:
    words = rng.choice((5,) * 24 + (6, 7, 15, 15, 4, 0))
    options = bytes(max(0, words - 5) * 4)
    right = 20 + len(options) + len(body)
    length = (
        right
        if rng.random() < 0.93
        else rng.choice((0, 19, words * 4 - 1, words * 4, right - 1, right + 1, 65535)) % 65536
    )
    wished = wishes.get(F.LENGTH, right)
    if wished != right and rng.random() < 0.5 and wished < 65536:
        length = wished
    version = 4 if rng.random() < 0.99 else rng.randrange(16)
    return struct.pack(
        "!BBHHHBBH4s4s", version << 4 | words, wishes.get(F.DSCP, rng.choice((0, 46))) << 2 | rng.randrange(4), length, rng.randrange(65536),
        _fragment(rng, kinds) | rng.choice((0, 0, 0x4000)), wishes.get(F.TTL, rng.choice((64, 64, 255, 1))), proto, rng.randrange(65536),
        (_address(rng, wishes, F.SRC, 4) - V4_BASE).to_bytes(4, "big"), (_address(rng, wishes, F.DST, 4) - V4_BASE).to_bytes(4, "big"),
    ) + options + body  # fmt: skip


def _fragment(rng: Random, kinds: tuple[str, ...]) -> int:
    """IPv4's flags and offset (13 bits)."""
    chance = 0.9 if {"fragment", "first-fragment", "later-fragment"} & set(kinds) else 0.1
    if rng.random() >= chance:
        return 0
    return rng.choice((0x2000, 0x2000, 0x2001, 1, 185, 0x1FFF, 0x3FFF))


def _ipv6(rng: Random, wishes: Wishes, kinds: tuple[str, ...], proto: int, body: bytes) -> bytes:
    following, packet = _chain(rng, kinds, proto, body)
    right = len(packet)
    length = (
        right
        if rng.random() < 0.93
        else rng.choice((0, max(0, right - 1), right + 1, 65535, max(0, right - len(body))))
    )
    wished = wishes.get(F.LENGTH, 0) - 40
    if 0 <= wished < 65536 and wished != right and rng.random() < 0.5:
        length = wished
    version = 6 if rng.random() < 0.99 else rng.randrange(16)
    hops = wishes.get(F.TTL, rng.choice((64, 255, 255, 254, 1)))
    if "nd" in kinds and rng.random() < 0.8:
        hops = 255
    first = version << 28 | wishes.get(F.DSCP, rng.choice((0, 46))) << 22 | rng.randrange(1 << 22)
    ends = _address(rng, wishes, F.SRC, 6).to_bytes(16, "big") + _address(rng, wishes, F.DST, 6).to_bytes(16, "big")
    return struct.pack("!IHBB", first, length, following, hops) + ends + packet


def _chain(rng: Random, kinds: tuple[str, ...], proto: int, body: bytes) -> tuple[int, bytes]:
    """0 to 9 extension headers before the body: the first next-header value, and the bytes."""
    fragmented = {"fragment", "first-fragment", "later-fragment"} & set(kinds) and rng.random() < 0.9
    count = rng.choice((0,) * 12 + (1, 1, 1, 2, 3, 7, 8, 8, 9))
    chosen = [rng.choice(EXTENSIONS) for _ in range(count)]
    if fragmented and 44 not in chosen:
        chosen.append(44)
    packet, following = body, proto
    for kind in reversed(chosen):
        packet = _extension(rng, kind, following) + packet
        following = kind
    return following, packet


def _extension(rng: Random, kind: int, following: int) -> bytes:
    """One extension header; now and then with a length octet that does not fit."""
    if kind == 44:
        place = rng.choice((0, 0, 1, 1, 9, 8, 0x05C8, 0xFFF9))
        return struct.pack("!BBHI", following, rng.randrange(256), place, rng.randrange(1 << 32))
    units = rng.choice((0,) * 12 + (1, 2, 6, 30, 31))
    size = (units + 2) * 4 if kind == 51 else (units + 1) * 8
    octet = units if rng.random() < 0.96 else rng.choice((0, units + 1, 31, 32, 62, 63, 255))
    return bytes((following, octet)) + bytes(size - 2)


def _address(rng: Random, wishes: Wishes, name: F, version: int) -> int:
    """The wished address, or one of a few hosts of the documentation networks."""
    if name in wishes:
        return wishes[name]
    if version == 4:
        return V4_BASE + rng.choice(V4_NETS) + rng.choice((0, 1, 2, 3, 255))
    return rng.choice(V6_NETS) + rng.choice((0, 1, 2, 3, 1 << 64))


def _ethernet(rng: Random, wishes: Wishes, kinds: tuple[str, ...], ethertype: int, packet: bytes) -> bytes:
    """MAC addresses and 0 to 3 tags in front."""
    outer, inner = wishes.get(F.VLAN), wishes.get(F.VLAN_INNER)
    count = rng.choice((0,) * 20 + (1, 1, 1, 2, 2, 3))
    if inner:
        count = max(count, 2)
    elif outer or ("vlan" in kinds and rng.random() < 0.8):
        count = max(count, 1)
    ids = [outer, inner, None]
    tags = b""
    for index in range(count):
        number = ids[index]
        if number is None:
            number = rng.choice((0, 1, 10, 20, 4095))
        tags += struct.pack("!HH", rng.choice((0x8100, 0x8100, 0x88A8)), rng.choice((0, 0xA000, 0x1000)) | number)
    macs = wishes.get(F.ETH_DST, 0x020000000002).to_bytes(6, "big") + wishes.get(F.ETH_SRC, 0x020000000001).to_bytes(
        6, "big"
    )
    return macs + tags + struct.pack("!H", ethertype) + packet
