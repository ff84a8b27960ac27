"""The format between the halves: what the compiler wrote and the runtime reads. The only door between them.

A bundle file is the line `netc-bundle 1 <sha256 of the rest>`, then zlib-compressed canonical JSON of one `Bundle`. The same
input gives the same bytes. Reading is strict: an unknown field, a wrong type, a size over its limit or a wrong hash is a
BundleError and nothing else happens. Devices are named by the policy's nic names; the runtime binds them.
"""

from __future__ import annotations

import hashlib
import zlib
from typing import Annotated, Literal

import msgspec

MAGIC = b"netc-bundle 1 "
MAX_FILE = 256 << 20  # bytes
MAX_PAYLOAD = 512 << 20  # bytes, decompressed
_LEVEL = 4  # of zlib: half the time of its usual 6, for a twentieth more bytes

Name = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.><:/-]{1,120}\Z")]
DeviceName = Annotated[str, msgspec.Meta(pattern=r"^[A-Za-z0-9_.:@-]{1,15}\Z")]  # IFNAMSIZ, no '/' or space
Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 40)]
Nanoseconds = Annotated[int, msgspec.Meta(ge=0, le=1 << 62)]  # the longest time of the language: compiler/units.py
U32 = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
Field16 = Annotated[int, msgspec.Meta(ge=-1, le=0xFFFF)]

# skb->mark: the byte that netc reserves for itself, and what it says of a packet. The low four bits of the byte: the nic's index.
MARK_MASK = 0xFF000000
MARK_PENDING = 0x50000000  # handed on by an early stage: the next one judges it
MARK_PASSED = 0x60000000  # passed for good: no later stage judges it again


class BundleError(Exception):
    """A file that is not a whole, well-formed bundle. The text names what is wrong with it."""


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base of everything in a bundle: immutable, strict."""


class Nic(Model, frozen=True):
    """`index` is the nic's number in mark values. xdp: native, generic, none: how the host's program runs, also where the NIC has one beside it."""

    name: Name
    device: DeviceName
    index: Annotated[int, msgspec.Meta(ge=0, lt=16)]
    xdp: str


class Map(Model, frozen=True):
    """A BPF map by its symbolic id (what `imm` of an ld_imm64 holds in `Code.code`).

    scope: `generation` maps belong to this bundle; `persistent` ones (counters, buckets, dynamic sets) are kept over an apply while
    type and sizes are equal, found again by `name`. kind names the kernel's BPF_MAP_TYPE_* in lower case. `entries` are
    key+value pairs, concatenated; for an array of one big value, `entries` is key 0 and the whole value.
    role tells the runtime what it has to fill in itself: see ROLES.
    """

    id: U32
    name: Name
    kind: str
    key_size: U32
    value_size: U32
    max_entries: U32
    flags: U32 = 0
    scope: str = "generation"
    role: str = ""
    entries: bytes = b""
    inner: str = ""


ROLES = {
    "": "nothing: `entries` is all",
    "slots": "u32 per counter of the program, by `Counter.index`: its slot in the nic's counter map; slot_room of them, the rest zero",
    "bucket-slots": "u32 per rule with a limit: in the bundle its `Counter.index`, in the kernel its slot in the nic's buckets",
    "counters": "persistent; as many pairs of u64 (packets, bytes) for each CPU as one of COUNTER_SLOTS",
    "clock": "u64 ns, one per array; 0: the kernel's clock",
    "scratch": "per CPU (CPU_MAX) SCRATCH_SIZE bytes; the first u32 is the index of the counter that judged the last packet",
    "devices": "devmap; key: nic index, value: the ifindex bound to it",
    "cpus": "cpumap; key: CPU, value: queue size",
    "mac": "u64: the MAC address of the nic's device as a number, which the runtime fills in; 0: none is its own",
    "sockets": "xskmap; sockets are put in by their owners",
    "set": "dynamic set: hash, key 20 bytes (u32 family 4 or 6, address 16 bytes, IPv4 in the first 4), value u64 expiry ns (0: never), u64 change, u64 ring slot",
    "ring": "keys of a dynamic set or of per-source buckets in order of insertion, for reclaiming",
    "change": "persistent; u64 number of the last change of sets by hand that holds, u64 number of one that is not yet ended (0: none)",
    "buckets": "u64 tick of theoretical arrival; one a limit, or one a key",
    "samples": "BPF ring buffer of samples",
    "changes": "rules that changed since the tables were built (compiler.tables.changes); `entries` has half 0, the runtime puts slots in",
    "config": "u32 words that the runtime fills: CONFIG_WORDS",
}
CPU_MAX = 256
COUNTER_SLOTS = tuple(1 << bits for bits in range(14, 20))  # of a nic's counter map: the least that has room for twice its counters (counter_slots)
MAX_COUNTERS = COUNTER_SLOTS[-1] // 2 - 1  # of a nic: slot 0 is nobody's
BUCKET_SLOTS = 16384  # of a nic, for limits that are not `per` something
SCRATCH_SIZE = 256
NIC_HOOK = "xdp_offload"  # what the NIC's own program hangs on
OFFLOAD_MAP = 1  # the symbolic id of its counters
MAX_PROTECTED = 64  # flows that are probed at an apply
CONFIG_WORDS = ("ifb_ifindex", "class_base")  # class_base: what a classifier adds to every class's minor number
GENERATION_MINORS = 0x1000  # minor numbers of one generation of tc classes: class_base is a multiple of it


class Code(Model, frozen=True):
    """One BPF program. hook: xdp, tcx_ingress, tcx_egress, ifb_egress. `maps` are the symbolic ids that it refers to."""

    name: Name
    nic: Name
    hook: str
    code: bytes
    maps: tuple[U32, ...]
    frags: bool = True


class Counter(Model, frozen=True):
    """One counter of one stage. name: wan.in.ssh, wan.in.default, .control, .handed-on, .seen; wan.steer.x; wan.shape.out.x.

    stage: xdp, ingress (nft netdev), conntrack (nft inet), egress, tc, steer. kind: rule, default, control, handed-on, seen, other,
    class. index: its number in the slot table of `program` (the name of a Code; "" for nft), else 0. verdict: pass, drop or "".
    """

    name: Name
    stage: str
    kind: str
    index: U32
    verdict: str
    file: str
    line: U32
    text: str
    program: str = ""


class Offload(Model, frozen=True):
    """The program of a nic that the NIC itself runs. It refers to one array, by the symbolic id OFFLOAD_MAP: its counters, in the order of their
    places, packets and bytes as u64 each, as many in an element as its `value_size` has room for. They are counters of the nic's `in` chain; what is
    counted here never gets to the host's program, so that a total is the sum of both.
    """

    name: Name
    nic: Name
    code: bytes
    elements: Annotated[int, msgspec.Meta(ge=1, le=1 << 20)]
    value_size: Annotated[int, msgspec.Meta(ge=16, le=1 << 20, multiple_of=16)]
    counters: tuple[Name, ...]


class Nft(Model, frozen=True):
    """libnftables JSON commands of one nic for one table that netc owns (family inet or netdev).

    `objects` is the table's whole content: every value is already a JSON object as libnftables-json(5) describes it; the string
    "$dev:NAME" stands for the device bound to nic NAME, "$mac:NAME" for its address. `fence`: a second table, in the same words, that stands beside the old one while
    an apply flips XDP and nft (compiler/targets/nft_fence.py).
    """

    family: str
    table: Name
    objects: tuple[msgspec.Raw, ...]
    counters: tuple[Name, ...] = ()
    fence: tuple[msgspec.Raw, ...] = ()


class Qdisc(Model, frozen=True):
    """A qdisc to make: kind and options as pyroute2 and tc name them. handle "1:", parent "root" or "1:10"."""

    kind: str
    handle: str
    parent: str
    options: dict[str, int | str | None]


class LeafQdisc(Model, frozen=True):
    """The alternatives for one class's queue, best first; the runtime takes the first that the kernel has."""

    parent: str
    handle: str
    choices: tuple[Qdisc, ...]
    prefer: bool


class TcClass(Model, frozen=True):
    """An HTB class. rate, ceil in bit/s; burst, cburst, quantum in bytes; overhead in bytes."""

    classid: str
    parent: str
    rate: Count
    ceil: Count
    burst: Count
    cburst: Count
    prio: U32
    quantum: Count
    overhead: int
    counter: Name


class Tree(Model, frozen=True):
    """One direction's qdisc tree of a nic: `out` on the nic itself, `in` on an ifb device of netc's own."""

    nic: Name
    direction: str
    root: Qdisc
    classes: tuple[TcClass, ...]
    leaves: tuple[LeafQdisc, ...]


class Setting(Model, frozen=True):
    """A typed NIC or host setting (ir.Setting): group, key and value as ethtool and sysctl spell them. nic "" is the host."""

    nic: str
    group: str
    key: str
    value: int | str | tuple[int | str, ...]
    prefer: bool
    file: str
    line: U32
    text: str


class Placement(Model, frozen=True):
    """What was put where and why: one line of the plan. `what` is a counter's or a setting's name."""

    what: str
    stage: str
    reason: str
    file: str = ""
    line: U32 = 0


class Assertion(Model, frozen=True):
    counter: str
    what: str
    op: str
    bound: float
    of: str
    text: str
    file: str
    line: U32


class Expect(Model, frozen=True):
    nic: Name
    window: Nanoseconds
    otherwise: str
    assertions: tuple[Assertion, ...]


class DynamicSet(Model, frozen=True):
    """What `given` in tests and set commands need to know of a dynamic set. map: the id of its map in this bundle.

    timeout 0: members stay. full: keep or evict. never: static sets whose members it does not take.
    """

    name: Name
    nic: Name
    map: U32
    size: U32
    timeout: Nanoseconds
    full: str = "keep"
    never: tuple[Name, ...] = ()


class StaticSet(Model, frozen=True):
    """A set that the policy fixes. type: address or port; ranges: `compiler.tables.members.encode` (ports as they are IPv4's).

    file, line: where it is declared. by_hand: `netc set` changed it, so that it no longer holds what is written there.
    """

    name: Name
    type: str
    ranges: bytes
    file: str
    line: U32
    by_hand: bool = False


class Source(Model, frozen=True):
    """One text file of the policy. name: as the policy's includes lead there from its folder; text: UTF-8, compressed with zlib."""

    name: str
    text: bytes


class Protected(Model, frozen=True):
    """One flow that stands for what a `protect` promises: whole packets with these fields pass and are left to the stack.

    src, dst: the first and the last address of a range, any of which will do; "" for any address. proto: IP's number. sport, dport, icmp
    (type << 8 | code), flags (of TCP): -1 where there is none. vlan: 0 for untagged.
    """

    nic: Name
    family: Literal[4, 6]
    proto: Annotated[int, msgspec.Meta(ge=0, le=255)]
    src: tuple[str, str]
    dst: tuple[str, str]
    sport: Field16
    dport: Field16
    icmp: Field16
    flags: Field16
    vlan: Field16
    dscp: Annotated[int, msgspec.Meta(ge=0, le=63)]
    ttl: Annotated[int, msgspec.Meta(ge=1, le=255)]
    text: str
    file: str
    line: U32


class Bundle(Model, frozen=True):
    """Everything that one policy becomes.

    sources, profile: what the policy was compiled from, so that it can be compiled again with other members in a fixed set: its text files,
    the policy itself first, without the files of sets, and the capability profile as JSON. The runtime never reads either.
    protected: what is probed when the policy is applied. offloads: what runs in NICs.
    """

    policy: str
    policy_sha256: str
    netc: str
    nics: tuple[Nic, ...]
    maps: tuple[Map, ...]
    programs: tuple[Code, ...]
    counters: tuple[Counter, ...]
    nft: tuple[Nft, ...]
    trees: tuple[Tree, ...]
    settings: tuple[Setting, ...]
    placements: tuple[Placement, ...]
    expects: tuple[Expect, ...]
    sets: tuple[DynamicSet, ...]
    static: tuple[StaticSet, ...] = ()
    sources: tuple[Source, ...] = ()
    profile: str = ""
    protected: tuple[Protected, ...] = ()
    offloads: tuple[Offload, ...] = ()


def slot_room(counters: int) -> int:
    """Entries of the slot table of a program with so many counters: rounded up, so that one rule more keeps the program's text."""
    return max(16, 1 << (counters - 1).bit_length())


def counter_slots(counters: int) -> int:
    """The size of a counter map for so many counters, MAX_COUNTERS at most: all of them can leave in one apply, and as many others come."""
    return next(size for size in COUNTER_SLOTS if counters < size // 2)


def encode(bundle: Bundle) -> bytes:
    """The file's bytes; equal bundles give equal bytes."""
    payload = zlib.compress(msgspec.json.encode(bundle, order="deterministic"), _LEVEL)
    return MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


def decode(data: bytes) -> Bundle:
    """Read a bundle file's bytes. Raises BundleError."""
    if len(data) > MAX_FILE:
        raise BundleError(f"the file has {len(data)} bytes; a bundle has at most {MAX_FILE}")
    head, newline, payload = data.partition(b"\n")
    if not newline or not head.startswith(MAGIC):
        raise BundleError("this is not a netc bundle of format 1 (make one with: netc compile POLICY -o FILE)")
    if hashlib.sha256(payload).hexdigest().encode() != head[len(MAGIC) :]:
        raise BundleError("the bundle's hash does not fit its content: it was cut or changed; compile or copy it again")
    return _decode_json(_inflate(payload))


def identity(data: bytes) -> str:
    """The bundle's hash as its first line states it: 64 hexadecimal digits."""
    return data[len(MAGIC) : len(MAGIC) + 64].decode("ascii", "replace")


def _inflate(payload: bytes) -> bytes:
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(payload, MAX_PAYLOAD)
    except zlib.error as error:
        raise BundleError(f"the bundle's content does not decompress: {error}") from None
    if not inflater.eof or inflater.unused_data:
        raise BundleError("the bundle's content is cut, or longer than a bundle may be")
    return text


def _decode_json(text: bytes) -> Bundle:
    try:
        return msgspec.json.decode(text, type=Bundle)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"the bundle's content is not as a bundle's has to be: {error}") from None
