"""The programs of a measurement: the generator of flows, the floor, pieces of netc's own path, and C that somebody wrote by hand.

The generator writes the next flow's frame over the packet of a test run and tail-calls the program under test; the floor hangs behind
the same generator, so that a difference is the price of judging. `STATE` and `TABLE` are global arrays that the runtime fills by mmap.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compiler import bundle
from compiler.targets import bcc
from compiler.targets.c_program import MMAPABLE, CProgram, map_id, referred_maps

GENERATOR, FLOOR, BY_HAND = "bench.generator", "bench.floor", "bench.by-hand"
NOTHING, LENGTH, PARSER, COUNTED = "bench.nothing", "bench.length", "bench.parser", "bench.counted"
STATE, TABLE, PROGRAMS, HAND_COUNTERS = "bench.state", "bench.table", "bench.programs", "bench.by-hand.counters"
SUBJECTS_MAX = 8  # entries of the program array
LEAD = 2  # bytes before each frame of the table; generator.h
_HEADER = Path(__file__).with_name("generator.h")
_LENGTHS = ((58, 60), (66, 66), (74, 74))  # octets that the generator's stores cover, and the frame they make; generator.h


def frame_length(longest: int) -> int:
    """Octets of every frame, when the longest flow has `longest` of them: the generator copies all that any flow has.

    Raises ValueError beyond 74 (TCP over IPv6).
    """
    for covered, length in _LENGTHS:
        if longest <= covered:
            return length
    raise ValueError(f"a flow of {longest} octets is longer than the generator's frames")


@dataclass(frozen=True, slots=True)
class Table:
    """The table of frames. slots: a power of two; length: bytes of every frame; stride: bytes from one to the next."""

    slots: int
    length: int

    @property
    def stride(self) -> int:
        return -(-(self.length + LEAD) // 16) * 16

    @property
    def size(self) -> int:
        return self.slots * self.stride


@dataclass(frozen=True, slots=True)
class Programs:
    maps: tuple[bundle.Map, ...]
    codes: tuple[bundle.Code, ...]
    counters: tuple[bundle.Counter, ...] = ()


def around(table: Table, nic: str, frags: bool) -> Programs:
    """The generator and the floor. frags: as the program under test, else the kernel refuses to put both into one array."""
    numbers = {
        "STATE": map_id(STATE), "TABLE": map_id(TABLE), "PROGRAMS": map_id(PROGRAMS), "SLOTS_MASK": table.slots - 1,
        "STRIDE": table.stride, "COPIED": table.length,
    }  # fmt: skip
    head = "".join(f"#define {name} {number}\n" for name, number in numbers.items()) + _HEADER.read_text(encoding="ascii")
    maps = (
        bundle.Map(map_id(STATE), STATE, "array", 4, 16, 1, MMAPABLE),
        bundle.Map(map_id(TABLE), TABLE, "array", 4, table.size, 1, MMAPABLE),
        bundle.Map(map_id(PROGRAMS), PROGRAMS, "prog_array", 4, 4, SUBJECTS_MAX),
    )
    codes = (
        _code(GENERATOR, nic, f"{head}int netc(struct xdp_md *ctx) {{ return generate(ctx); }}\n", frags),
        _code(FLOOR, nic, f"{head}int netc(struct xdp_md *ctx) {{ return parse_only(ctx); }}\n", frags),
    )
    return Programs(maps, codes)


def pieces(nic: str, frags: bool, source: str) -> Programs:
    """Nothing at all; the helper call for the frame's length, with it netc's parser, with both two counters: where a small policy's time goes.

    source: the policy's own program: the parser writes what that one reads.
    """
    maps: dict[int, bundle.Map] = {}
    codes, counters = [], []
    parse = "    netc_parse(p, (void *)(long)ctx->data, (void *)(long)ctx->data_end, bytes, 0, 0);\n"
    for name in (LENGTH, PARSER, COUNTED):
        c = CProgram(name, nic, "xdp", {})
        body = "    packet_t *p = PACKET;\n    u32 bytes = netc_length(ctx);\n"
        if name == LENGTH:
            body += "    p->bytes = bytes;\n"
        elif name == COUNTED:
            for what in ("seen", "default"):
                c.add_counter(bundle.Counter(f"{name}.{what}", "xdp", "other", 0, "", "", 0, ""))
            body += f"    COUNT(0, bytes);\n{parse}    p->judged = 1;\n    COUNT(p->judged & 1, bytes);\n"
        else:
            body += parse
        code = c.finish(body + "    return XDP_PASS;\n", frags, source.partition("\nint netc(")[2])
        codes.append(code)
        counters += c.counters
        maps.update({item.id: item for item in c.used_maps(code)})
    codes.append(_code(NOTHING, nic, "int netc(struct xdp_md *ctx) { return XDP_PASS; }\n", frags))
    return Programs(tuple(maps.values()), tuple(codes), tuple(counters))


def by_hand(text: str, nic: str, rules: int, frags: bool) -> Programs:
    """A hand-written program: `int judge(struct xdp_md *ctx, struct counter *counters)` over this CPU's counters.

    counters[i] is the i-th rule's, counters[rules] the default's: the check reads them. Raises bcc.CError with clang's words.
    """
    head = (
        "#define MAP(id) ((void *)bpf_pseudo_fd(1, (id)))\n#define VALUE(id) ((void *)bpf_pseudo_fd(2, (id)))\n"
        "#define INLINE static inline __attribute__((always_inline))\n"
        f"#define RULES {rules}\n#define CPU_MAX {bundle.CPU_MAX}\nstruct counter {{ u64 packets, bytes; }};\n"
    )
    tail = (
        "\nint netc(struct xdp_md *ctx) {\n    struct counter (*all)[RULES + 1] = "
        f"VALUE({map_id(HAND_COUNTERS)});\n    return judge(ctx, all[bpf_get_smp_processor_id() & (CPU_MAX - 1)]);\n}}\n"
    )
    counters = bundle.Map(map_id(HAND_COUNTERS), HAND_COUNTERS, "array", 4, bundle.CPU_MAX * (rules + 1) * 16, 1, MMAPABLE)
    return Programs((counters,), (_code(BY_HAND, nic, head + text + tail, frags),))


def _code(name: str, nic: str, text: str, frags: bool) -> bundle.Code:
    code = bcc.compile_c(text, "netc")
    return bundle.Code(name, nic, "xdp", code, referred_maps(code), frags)
