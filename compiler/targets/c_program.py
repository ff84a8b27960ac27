"""Assembles one BPF program's C text, maps and counters; the same for XDP and for tc (SCHED_CLS).

Use, as `compiler.targets.xdp` does:

    c = CProgram("wan.tcx_egress", nic="wan", hook="tcx_egress", sets={s.name: s for s in program.sets})
    seen = c.counter(Counter...)                     # index in the slot table
    condition = c_expr.true_when(expr, c)            # C text; may ask `c` for maps of sets
    code = c.finish(body)                            # body: C statements of `int netc(CONTEXT *ctx) { ... }`, `p` is the packet

In the body: `packet_t *p = PACKET;` this CPU's scratch, `COUNT(index, bytes)`, `netc_parse(p, data, data_end, bytes, accelerated,
tci)` (for an skb: bpf_skb_pull_data first, skb->vlan_present and skb->vlan_tci last, since tc sees the outer tag beside the frame),
`netc_now(VALUE(CLOCK))`; see prelude.h, state.h, keyed.h. All programs of a nic count into its one counter map; maps are known by name, and
their ids come from the names, so that separate lowerings agree on shared ones (nic.counters, clock, set.NAME).
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Mapping
from pathlib import Path

from msgspec.structs import replace

from compiler import bundle, ir
from compiler.diagnostics import CompileError, Diagnostic
from compiler.source import NOWHERE, Span
from compiler.tables import calls
from compiler.targets import bcc, c_fields

MAX_INSTRUCTIONS = 30_000  # LLVM 14 wraps 16-bit jumps beyond 32,767 without a word
MAX_MAPS = 64  # MAX_USED_MAPS, include/linux/bpf_verifier.h
MMAPABLE = 1 << 10  # BPF_F_MMAPABLE
_HERE = Path(__file__).resolve().parent
_CONTEXTS = {"xdp": "struct xdp_md", "tcx_ingress": "struct __sk_buff", "tcx_egress": "struct __sk_buff", "ifb_egress": "struct __sk_buff"}
_WORD = 8  # bytes of an instruction
_LD_IMM64 = 0x18
_CHARACTERS = 16  # of C for an instruction at the very most; it is about 11


def map_id(name: str) -> int:
    """The symbolic id of a map: 31 bits of its name, since `imm` is signed."""
    return zlib.crc32(name.encode()) & 0x7FFFFFFF or 1


def symbol(name: str) -> str:
    """A kind's or field's name as prelude.h spells it."""
    return name.replace(".", "_").replace("-", "_")


def referred_maps(code: bytes) -> tuple[int, ...]:
    """The symbolic ids in a program's ld_imm64 instructions, ascending."""
    found = set()
    at = 0
    while at < len(code):
        wide = code[at] == _LD_IMM64
        if wide and code[at + 1] >> 4:
            found.add(int.from_bytes(code[at + 4 : at + 8], "little"))
        at += 16 if wide else 8
    return tuple(sorted(found))


def read_part(name: str) -> str:
    """The text of prelude.h, packet.h, parser.h, state.h, keyed.h, effects.h or another header of this folder."""
    return (_HERE / name).read_text(encoding="ascii")


class CProgram:
    """One program in the making: names go into side tables, C gets numbers."""

    def __init__(
        self, name: str, nic: str, hook: str, sets: Mapping[str, ir.Set], span: Span = NOWHERE, slots: int = bundle.COUNTER_SLOTS[0]
    ) -> None:
        """slots: of the nic's counter map, which all its programs share (counter_room.slots)."""
        self.name, self.nic, self.hook, self.sets, self.span, self.slots = name, nic, hook, sets, span, slots
        self.maps: dict[int, bundle.Map] = {}
        self.counters: list[bundle.Counter] = []
        self._indices: dict[str, int] = {}
        self._limited: list[int] = []  # indices of counters whose rules have a bucket
        self.definitions = ""  # further text in front of the function
        self.instead = ""  # why this is straight code that would rather be tables
        self.source = ""

    def add_map(
        self, name: str, kind: str, key_size: int, value_size: int, max_entries: int, *, flags: int = 0, scope: str = "generation",
        role: str = "", entries: bytes = b"",
    ) -> int:  # fmt: skip
        """The id of the map with this name, made on first use."""
        number = map_id(name)
        made = bundle.Map(number, name, kind, key_size, value_size, max_entries, flags, scope, role, entries)
        if self.maps.setdefault(number, made) != made:
            raise CompileError([self.refusal("N905", f"the maps {name} and {self.maps[number].name} have the same number", "rename one")])
        return number

    def add_array(self, name: str, size: int, *, scope: str = "generation", role: str = "", content: bytes = b"") -> int:
        """An array map of one value of `size` bytes, reached without a helper call (`VALUE(id)`) and by mmap."""
        entries = bytes(4) + content if content else b""
        return self.add_map(name, "array", 4, size, 1, flags=MMAPABLE, scope=scope, role=role, entries=entries)

    def add_counter(self, counter: bundle.Counter) -> int:
        """The counter's index in this program's slot table; the same name gives the same index. Its `index` is set here."""
        if counter.name not in self._indices:
            self._indices[counter.name] = len(self.counters)
            self.counters.append(replace(counter, index=len(self.counters), program=self.name))
        return self._indices[counter.name]

    def index(self, name: str) -> int:
        """The index of a counter that was added before."""
        return self._indices[name]

    def bucket(self, index: int) -> str:
        """C: a pointer to the bucket of the rule with this counter. Buckets have slots of their own, so that they stay where counters move."""
        if index not in self._limited:
            self._limited.append(index)
        buckets = self.add_array(f"{self.nic}.buckets", 8 * bundle.BUCKET_SLOTS, scope="persistent", role="buckets")
        return f"(u64 *)VALUE({buckets}) + netc_bucket(VALUE({map_id(self._bucket_slots)}), {self._limited.index(index)})"

    @property
    def _bucket_slots(self) -> str:
        return f"{self.name}.bucket-slots"

    def clock(self) -> int:
        return self.add_array("clock", 8, role="clock")

    def refusal(self, code: str, message: str, help_: str, span: Span | None = None) -> Diagnostic:
        return Diagnostic(code, message, span or self.span, help_)

    def finish(self, body: str, frags: bool = True, reads: str = "") -> bundle.Code:
        """Compile; frags: load as aware of multi-buffer frames; reads: text whose fields are parsed beside the body's. `self.source` is the whole text then.

        Raises CompileError N901 (too long), N902 (too many maps), N905 (bug).
        """
        self.source = self._head(body + reads) + body + "}\n"
        if len(body) > MAX_INSTRUCTIONS * _CHARACTERS:  # clang would take a minute to say the same
            raise CompileError([self._too_long(len(body) // _CHARACTERS)])
        try:
            code = bcc.compile_c(self.source, "netc")
        except bcc.CError as error:
            raise CompileError([self.refusal("N905", f"netc made C that clang refuses: {error}", "this is a bug in netc")]) from error
        if len(code) // _WORD > MAX_INSTRUCTIONS:
            raise CompileError([self._too_long(len(code) // _WORD)])
        maps = referred_maps(code)
        if len(maps) > MAX_MAPS:
            help_ = "use fewer named sets and fewer limits per source: each needs a map or two"
            message = f"{self.name} needs {len(maps)} BPF maps, the kernel allows {MAX_MAPS} a program{self._instead()}"
            raise CompileError([self.refusal("N902", message, help_)])
        return bundle.Code(self.name, self.nic, self.hook, code, maps, frags)

    def _too_long(self, count: int) -> Diagnostic:
        message = f"{self.name} comes to {count} BPF instructions or more; {MAX_INSTRUCTIONS} are possible{self._instead()}"
        return self.refusal("N901", message, "put the addresses and ports of similar rules into named sets: one rule does the work of many then")

    def _instead(self) -> str:
        return f"; the rules do not fit into tables: {self.instead}" if self.instead else ""

    def used_maps(self, code: bundle.Code) -> list[bundle.Map]:
        """The maps that the finished program refers to, by id, and the rings of its sets, which `netc set` needs; no others."""
        used = [self.maps[number] for number in code.maps]
        rings = {map_id(f"{item.name}.ring") for item in used if item.role == "set"} - set(code.maps)
        return [*used, *(self.maps[number] for number in sorted(rings))]

    def _head(self, readers: str) -> str:
        if len(self.counters) >= self.slots:
            raise AssertionError(f"{self.name} has {len(self.counters)} counters for {self.slots} slots: counter_room.slots did not see them coming")
        if self._limited:
            content = struct.pack(f"<{len(self._limited)}I", *self._limited)
            self.add_array(self._bucket_slots, len(content), role="bucket-slots", content=content)
        ids = {
            "SCRATCH": self.add_array(f"{self.name}.scratch", bundle.CPU_MAX * bundle.SCRATCH_SIZE, role="scratch"),
            "SLOTS": self.add_array(f"{self.name}.slots", 4 * bundle.slot_room(len(self.counters)), role="slots"),
            "COUNTERS": self.add_map(
                f"{self.nic}.counters", "percpu_array", 4, 16, self.slots, scope="persistent", role="counters"
            ),
            "CLOCK": self.clock(),
        }
        numbers = {"CPU_MAX": bundle.CPU_MAX, "SCRATCH_SIZE": bundle.SCRATCH_SIZE, "COUNTER_SLOTS": self.slots, "BUCKET_SLOTS": bundle.BUCKET_SLOTS, "BUFF_FLAGS": calls.BUFF_FLAGS, "BUFF_FLAGS_AT": calls.BUFF_FLAGS_AT, **ids}
        lines = [f"#define {name} {number}" for name, number in numbers.items()]
        lines += [f"#define KIND_{symbol(kind)} {1 << i}u" for i, kind in enumerate(ir.KINDS)]
        lines += [f"#define HAVE_{symbol(field)} {1 << i}u" for i, field in enumerate(ir.Field)]
        lines.append("#define PACKET netc_packet(VALUE(SCRATCH))")
        lines.append("#define COUNT(index, bytes) netc_count(MAP(COUNTERS), VALUE(SLOTS), (index), 1, (bytes))")
        rest = "\n".join(map(read_part, ("state.h", "keyed.h", *(("effects.h",) if self.hook == "xdp" else ()))))
        lines += c_fields.definitions(readers, rest + self.definitions)
        parts = ["\n".join(lines), read_part("prelude.h"), read_part("packet.h"), read_part("parser.h"), rest, self.definitions]
        return "\n".join(parts) + f"\nint netc({_CONTEXTS[self.hook]} *ctx)\n{{\n"


def counter(name: str, stage: str, kind: str, verdict: str = "", span: Span = NOWHERE, text: str = "") -> bundle.Counter:
    """A bundle.Counter whose index is still to be set by `CProgram.add_counter`."""
    return bundle.Counter(name, stage, kind, 0, verdict, span.file, span.line, text)
