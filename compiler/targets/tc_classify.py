"""The classifiers: tcx programs that put every packet into its class by skb->priority, and count it.

`shape NIC out`: tcx egress. HTB takes a class id in skb->priority before it asks any filter (net/sched/sch_htb.c, htb_classify).
`shape NIC in`: the nic's one tcx ingress program: first what XDP carried goes to the mark (tcx.py), then class, then redirect to the ifb
whose ifindex the runtime wrote. What the ifb gives back skips tcx, so nothing is counted twice.

Counting: one skb of GSO or GRO is the packets that are or were on the wire: `gso_segs` of them, each with its headers and its tag; bytes are
L2 without FCS. (Of a tunnelled skb only the outer headers are added, as the kernel's own qdisc_pkt_len_init does.) The headers are read
where they lie; only a packet whose headers are beyond the linear part is pulled, because pulling a cloned TCP skb copies it.
"""

from __future__ import annotations

from dataclasses import dataclass

from compiler import bundle, ir, place
from compiler.targets import c_expr, c_sets, counter_room, tc_tree, tcx, xdp_rules
from compiler.targets.c_program import CProgram, counter

HOOKS = {"out": "tcx_egress", "in": "tcx_ingress"}
HEADERS = 384  # bytes: two tags, IPv6 with 256 bytes of extension headers, TCP with options
_STAGE = "tc"

_READ = f"""\
    packet_t *p = PACKET;
    volatile u32 *config = VALUE(CONFIG);
    u32 bytes = ctx->len, segments = 1, header = 0, minor = 0, round;
    u32 tagged = ctx->vlan_present, linear = bytes < {HEADERS} ? bytes : {HEADERS};
#pragma clang loop unroll(disable)
    for (round = 0; round < 2; round++) {{
        u8 *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
        netc_parse(p, data, data_end, bytes, tagged, ctx->vlan_tci);
        if (!(p->kinds & KIND_malformed) || data + linear <= data_end)
            break;
        if (bpf_skb_pull_data(ctx, linear))
            break;
    }}
"""

_SEGMENTS = """\
    if (ctx->gso_size) {
        u8 *data = (void *)(long)ctx->data, *data_end = (void *)(long)ctx->data_end;
        u32 at = p->at & 0x3ff;
        u8 *h = data + at;
        if ((p->have & HAVE_tcp_flags) && h + 20 <= data_end)
            header = at + (h[12] >> 4) * 4;
        else if (p->have & HAVE_sport)
            header = at + 8;
        segments = ctx->gso_segs;
        if (!segments)
            segments = bytes > header ? (bytes - header + ctx->gso_size - 1) / ctx->gso_size : 1;
        bytes += (segments - 1) * header;
    }
    if (tagged)
        bytes += 4 * segments;
#define COUNT_SEGMENTS(index) netc_count(MAP(COUNTERS), VALUE(SLOTS), (index), segments, bytes)
"""


@dataclass(frozen=True, slots=True)
class Classified:
    """The programs of every shape with what they need. sources: program name → C text."""

    maps: tuple[bundle.Map, ...]
    programs: tuple[bundle.Code, ...]
    counters: tuple[bundle.Counter, ...]
    sets: tuple[bundle.DynamicSet, ...]
    sources: dict[str, str]


def lower(placed: place.Placed) -> Classified:
    """One program a shape. Raises CompileError (N901-N905) for what does not fit into one."""
    sets = {item.name: item for item in placed.program.sets}
    maps: dict[int, bundle.Map] = {}
    programs, counters, sources, dynamic = [], [], {}, {}
    for nic in placed.nics:
        for shape in nic.shapes:
            code, c = classifier(nic, shape, sets)
            programs.append(code)
            counters += c.counters
            sources[code.name] = c.source
            for item in c.used_maps(code):
                maps[item.id] = item
                if item.role == "set":
                    known = sets[item.name.removeprefix("set.")]
                    dynamic[item.id] = c_sets.described(known, c.nic, item.id)
    return Classified(tuple(maps.values()), tuple(programs), tuple(counters), tuple(dynamic.values()), sources)


def classifier(nic: place.NicPlacement, shape: ir.Shape, sets: dict[str, ir.Set]) -> tuple[bundle.Code, CProgram]:
    """The program of one shape, and the assembly that knows its maps, counters and text."""
    hook = HOOKS[shape.direction]
    c = CProgram(f"{nic.nic.name}.{hook}", nic.nic.name, hook, sets, shape.span, counter_room.slots(nic, sets))
    seen = c.add_counter(counter(f"{shape.name}.seen", _STAGE, "seen", "", shape.span))
    config = c.add_array(f"{c.name}.config", 4 * len(bundle.CONFIG_WORDS), role="config")
    carried = tcx.own_copies(nic) if shape.direction == "in" else ""
    carried += tcx.carrier(c, nic) if shape.direction == "in" and tcx.carries(nic) else ""
    classes = _classes(shape, c)
    body = f"#define CONFIG {config}\n" + carried + _READ + _SEGMENTS + _clock(shape, c) + f"    COUNT_SEGMENTS({seen});\n"
    return c.finish(body + classes + "done:\n" + _end(shape)), c


def _clock(shape: ir.Shape, c: CProgram) -> str:
    """The time, where a class asks a dynamic set whether a member is still live."""
    asks = any(item.cls.when is not None and xdp_rules.asks_clock(item.cls.when, dict(c.sets)) for item in tc_tree.number(shape))
    return c_sets.clock_lines(c) if asks else ""


def _classes(shape: ir.Shape, c: CProgram) -> str:
    """Nested conditions in the order of the text, each level's default last; every path ends at `done` with a leaf's minor."""
    numbered = tc_tree.number(shape)
    indices = {}
    for item in numbered:
        kind = "other" if item.cls.classes else "class"
        made = counter(f"{shape.name}.{item.cls.name}", _STAGE, kind, "pass", item.cls.span, item.cls.text)
        indices[item.minor] = c.add_counter(made)

    def level(parent: int) -> str:
        inside = sorted((item for item in numbered if item.parent == parent), key=lambda item: item.cls.when is None)
        return "".join(map(one, inside))

    def one(item: tc_tree.Numbered) -> str:
        condition = c_expr.ALWAYS if item.cls.when is None else c_expr.true_when(item.cls.when, c)
        if condition == c_expr.NEVER:
            return ""
        index = indices[item.minor]
        taken = level(item.minor) if item.cls.classes else f"        p->judged = {index}; minor = {item.minor}; goto done;\n"
        return f"    if ({condition}) {{\n        COUNT_SEGMENTS({index});\n{taken}    }}\n"

    return level(tc_tree.SHAPE_MINOR)


def _end(shape: ir.Shape) -> str:
    base, ifb = (bundle.CONFIG_WORDS.index(word) for word in ("class_base", "ifb_ifindex"))
    priority = f"    ctx->priority = {tc_tree.MAJOR << 16}u | ((config[{base}] + minor) & 0xffff);\n"
    if shape.direction == "out":
        return priority + f"    return {tcx.NEXT};\n"
    return priority + f"    {{\n        u32 ifb = config[{ifb}];\n        return ifb ? bpf_redirect(ifb, 0) : {tcx.NEXT};\n    }}\n"
