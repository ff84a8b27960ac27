"""Rules that changed since the tables were built: a map of its own that a program asks before it believes its tables.

The map is one value with two halves. A program reads the number of the half in force once a packet; a change is written into the other half and
comes into force by one store. In a half: which rules of the tables are dead, and up to MOST entries, one box each, in the order of the rules.

    0               u32 half in force, u32 bytes of a half, u32 where entries begin in a half, u32 room of the
                    program's slot table: an entry's counters are numbered behind it
    SLOTS_AT        u32 slot of each of the 2 x MOST counters that entries may count in: half 0 has the first MOST
    HALVES_AT       two halves: u32 entries, at 64 bits of dead counters, then bits of dead terms (words of a row), then the entries

An entry that stands before counter b of the tables has the key 2b - 1: it comes before every record (2b, 2b + 1) of that rule and behind those of
the rule above. compiler/targets/changes.h reads all of this.
"""

from __future__ import annotations

import hashlib
import struct
import zlib
from collections.abc import Iterable
from dataclasses import dataclass

import msgspec

from compiler.bundle import U32, Bundle, BundleError, Counter, DeviceName, Map, Model, Name, Placement, Source

LEAST = 256  # rules in tables, so that they can change in place: fewer are compiled again before long
MOST = 32  # entries of a half
COUNTERS_AT = 12
SLOTS_AT = 16
HALVES_AT = SLOTS_AT + 4 * 2 * MOST + 48
DEAD_AT = 64
SMALL = ("ethertype", "vlan", "vlan.inner", "proto", "dscp", "ttl", "length", "sport", "dport", "tcp.flags", "icmp.type", "icmp.code")
BITS = "tcp.flags"  # of these an entry asks bits: value and mask
SMALL_AT = 96  # in an entry: low and span of each small field
ENTRY = SMALL_AT + 8 * len(SMALL)
MAGIC = b"netc-change 1 "
OWN = frozenset(("seen", "default", "control", "handed-on", "unmarked", "elsewhere"))  # a stage's own counters are no rules
_HEAD = struct.Struct("=4I")
_ENTRY = struct.Struct("=8I8Q")


@dataclass(frozen=True, slots=True)
class Layout:
    """counters: up to the last rule's; words: of a row of bits, 0 where there are no rows."""

    counters: int
    words: int

    @property
    def dead(self) -> int:
        """Bytes of dead counters: a power of two, so that one rule more seldom changes the program's text."""
        return max(64, 1 << ((self.counters + 7) // 8 - 1).bit_length())

    @property
    def rows_at(self) -> int:
        return DEAD_AT + self.dead

    @property
    def entries_at(self) -> int:
        return self.rows_at + 8 * self.words

    @property
    def half(self) -> int:
        """Bytes, a multiple of 64."""
        return -(-(self.entries_at + MOST * ENTRY) // 64) * 64

    @property
    def size(self) -> int:
        """Bytes of the whole, a power of two."""
        return 1 << (HALVES_AT + 2 * self.half - 1).bit_length()

    def header(self, counters: int) -> bytes:
        """What the map begins with when nothing has changed. counters: all of the program's."""
        return _HEAD.pack(0, self.half, self.entries_at, counters).ljust(HALVES_AT, b"\0")


@dataclass(frozen=True, slots=True)
class Entry:
    """One box. before: the counter of the tables' rule that it stands in front of; nth: which of the changed rules it belongs to.

    src, dst: (family 4 or 6, first, last) as numbers, None where not asked; small: (name, low, high), of BITS (name, value, mask); kinds, mask as classify.terms.Box.
    """

    before: int
    nth: int
    passes: bool
    mask: int
    kinds: int
    src: tuple[int, int, int] | None
    dst: tuple[int, int, int] | None
    small: tuple[tuple[str, int, int], ...]

    def encode(self, first_counter: int) -> bytes:
        """first_counter: the index of the first counter behind the tables' own."""
        asked = sum(1 << SMALL.index(name) for name, _, _ in self.small)
        sides = [side or (0, 0, (1 << 128) - 1) for side in (self.src, self.dst)]
        families = [(side[0], 0xFF if side[0] else 0) for side in sides]
        words = [word for _, low, high in sides for word in (low >> 64, low & _U64, high >> 64, high & _U64)]
        record = (first_counter + self.nth) << 1 | self.passes
        head = _ENTRY.pack(2 * self.before - 1, record, self.mask, self.kinds, asked, *(f for f, _ in families),
                           families[0][1] | families[1][1] << 8, *words)  # fmt: skip
        ranges = {name: (low, high if name == BITS else high - low) for name, low, high in self.small}
        return head + b"".join(struct.pack("=2I", *ranges.get(name, (0, 0))) for name in SMALL)


_U64 = (1 << 64) - 1


def half(layout: Layout, counters: int, entries: Iterable[Entry], dead: Iterable[int], dead_terms: Iterable[int]) -> bytes:
    """The content of half 0. counters: room of the program's slot table; dead: those of rules that are gone; dead_terms: their bits in rows."""
    content = bytearray(layout.half)
    listed = list(entries)
    content[0:4] = len(listed).to_bytes(4, "little")
    for at, numbers in ((DEAD_AT, dead), (layout.rows_at, dead_terms)):
        for number in numbers:
            content[at + (number >> 3)] |= 1 << (number & 7)
    for number, entry in enumerate(listed):
        at = layout.entries_at + number * ENTRY
        content[at : at + ENTRY] = entry.encode(counters)
    return bytes(content)


def in_half(content: bytes, entries_at: int, number: int) -> bytes:
    """The content of half 0 as half `number` has it: its entries count in the other counters. -1: of half 1 as half 0 would have it."""
    moved = bytearray(content)
    for nth in range(min(MOST, int.from_bytes(content[:4], "little"))):
        at = entries_at + nth * ENTRY + 4
        record = int.from_bytes(moved[at : at + 4], "little") + (number * MOST << 1)
        moved[at : at + 4] = record.to_bytes(4, "little")
    return bytes(moved)


class Added(Model, frozen=True):
    """A rule that the tables do not have, as its counter and its line of the plan show it. nth: its number among them."""

    name: Name
    nth: U32
    verdict: str
    line: U32
    text: str


class Lines(Model, frozen=True):
    """Lines first..last of the text (from 0, last exclusive) became these."""

    first: U32
    last: U32
    text: tuple[str, ...]


class Delta(Model, frozen=True):
    """From a bundle that was applied to the one of a changed policy. half: content of half 0; gone: names of counters that left; lines: of the policy's text, ascending;
    nics: the policy's devices."""

    base: str
    policy_sha256: str
    map: Name
    program: Name
    chain: Name
    counters: int
    half: bytes
    added: tuple[Added, ...]
    gone: tuple[Name, ...]
    lines: tuple[Lines, ...]
    file: str
    nics: dict[Name, DeviceName]


def encode(delta: Delta) -> bytes:
    """A file's bytes: the line `netc-change 1 <sha256>`, then JSON."""
    payload = msgspec.json.encode(delta, order="deterministic")
    return MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


def decode(data: bytes) -> Delta:
    """Raises BundleError."""
    head, newline, payload = data.partition(b"\n")
    if not newline or head != MAGIC + hashlib.sha256(payload).hexdigest().encode():
        raise BundleError("this is not a whole change of format 1")
    try:
        delta = msgspec.json.decode(payload, type=Delta)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"the change is not as a change has to be: {error}") from None
    numbered = [rule.nth for rule in delta.added] == list(range(len(delta.added))) and len(delta.added) <= MOST
    names = (*delta.gone, *(rule.name for rule in delta.added))
    rules = all(name.startswith(f"{delta.chain}.") and name.rpartition(".")[2] not in OWN for name in names)
    if delta.map != map_name(delta.program) or not numbered or not rules or any(rule.verdict not in ("pass", "drop") for rule in delta.added):
        raise BundleError(f"the change of {delta.program} is not as a change has to be: {len(delta.added)} rules beside {delta.map}")
    return delta


def map_name(program: str) -> str:
    """The map that takes a program's changes."""
    return f"{program}.changes"


def identity(data: bytes) -> str:
    """The change's hash as its first line states it: 64 hexadecimal digits."""
    return data[len(MAGIC) : len(MAGIC) + 64].decode("ascii", "replace")


def compose(base: Bundle, delta: Delta) -> Bundle:
    """The bundle of the changed policy: what a fresh load installs. Raises BundleError where the change does not fit the bundle."""
    if not any(item.name == delta.map and item.role == "changes" for item in base.maps):
        raise BundleError(f"the bundle has no map {delta.map}")
    gone = set(delta.gone)
    return msgspec.structs.replace(
        base,
        policy_sha256=delta.policy_sha256,
        maps=tuple(_changed(item, delta) if item.name == delta.map else item for item in base.maps),
        sources=(_edited(base.sources[0], delta.lines), *base.sources[1:]) if base.sources else (),
        counters=(*_moved((c for c in base.counters if c.name not in gone), delta), *added_counters(delta)),
        settings=_moved(base.settings, delta),
        static=_moved(base.static, delta),
        protected=_moved(base.protected, delta),
        placements=(
            *_moved((p for p in base.placements if p.what not in gone), delta),
            *(Placement(a.name, "xdp", "beside the tables: it came after they were built", delta.file, a.line) for a in delta.added),
        ),
        expects=tuple(msgspec.structs.replace(e, assertions=_moved(e.assertions, delta)) for e in base.expects),
    )


def _changed(item: Map, delta: Delta) -> Map:
    entries = bytearray(item.entries.ljust(item.key_size + HALVES_AT + len(delta.half), b"\0"))
    size = int.from_bytes(entries[8:12], "little")
    if size != len(delta.half):
        raise BundleError(f"a half of {delta.map} has {size} bytes, the change has {len(delta.half)}")
    at = item.key_size + HALVES_AT
    entries[at : at + size] = delta.half
    return msgspec.structs.replace(item, entries=bytes(entries))


def added_counters(delta: Delta) -> list[Counter]:
    """The counters of the rules that the tables do not have."""
    return [
        Counter(a.name, "xdp", "rule", delta.counters + a.nth, a.verdict, delta.file, a.line, a.text, delta.program) for a in delta.added
    ]


def _edited(source: Source, changed: Iterable[Lines]) -> Source:
    """The policy's text with the lines that changed."""
    try:
        lines = zlib.decompress(source.text).decode().split("\n")
    except (zlib.error, UnicodeDecodeError) as error:
        raise BundleError(f"the bundle does not hold the text of {source.name}: {error}") from None
    for hunk in sorted(changed, key=lambda hunk: -hunk.first):
        lines[hunk.first : hunk.last] = hunk.text
    return Source(source.name, zlib.compress("\n".join(lines).encode(), 1))


def _moved(items: Iterable, delta: Delta) -> tuple:  # type: ignore[type-arg]  # of any one located kind
    """Places behind lines that came or went have moved with them."""
    return tuple(
        msgspec.structs.replace(item, line=item.line + by) if item.file == delta.file and (by := _shift(item.line, delta)) else item
        for item in items
    )


def _shift(line: int, delta: Delta) -> int:
    return sum(len(hunk.text) - (hunk.last - hunk.first) for hunk in delta.lines if line > hunk.last)
