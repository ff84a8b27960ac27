"""What of a filter a NIC's own program judges, why not the rest, and the C and the plan of it."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from compiler import emit, ir, pipeline, place_offload, profile
from compiler.diagnostics import CompileError
from compiler.ir import Field, Is, Within
from compiler.place import ChainPlacement
from compiler.profile import OffloadMaps
from compiler.source import Sources

PROFILES = Path(__file__).parent / "profiles"
ROOM = OffloadMaps(2, 64)
SETS = {
    "few": ir.Set("few", "address", ranges=tuple((ir.V4_BASE + 256 * n, ir.V4_BASE + 256 * n + 9) for n in range(10))),
    "many": ir.Set("many", "address", ranges=tuple((ir.V4_BASE + 256 * n, ir.V4_BASE + 256 * n + 9) for n in range(100))),
    "dyn": ir.Set("dyn", "address", size=10),
}
DNS = ir.And((Is("udp"), Within(Field.DPORT, ((53, 53),))))


def rule(name: str, verdict: str, when: ir.Expr, **more: object) -> ir.Rule:
    return ir.Rule(name, verdict, when, **more)  # type: ignore[arg-type]


def split(*rules: ir.Rule, default: str = "pass", late: int = 0, room: OffloadMaps = ROOM) -> place_offload.NicHalf:
    chain = ir.Chain("wan.in", "wan", "in", None, rules, default)
    return place_offload.split(ChainPlacement(chain, "xdp", len(rules) - late, "conntrack" if late else ""), SETS, room)


def why(half: place_offload.NicHalf, name: str) -> str:
    return next(item.reason for item in half.reasons if item.what == f"wan.in.{name}")


def test_exact_drops_are_the_nics_and_passes_go_to_the_host() -> None:
    half = split(rule("dns", "drop", DNS), rule("web", "pass", Is("tcp")), rule("few", "drop", ir.Member(Field.SRC, "few")), default="drop")
    assert half.counters == ("wan.in.dns", "wan.in.few", "wan.in.default")
    assert [step.counter for step in half.steps] == ["wan.in.dns", "", "wan.in.few", "wan.in.default"]


@pytest.mark.parametrize(
    ("item", "words"),
    [
        (rule("x", "drop", DNS, limit=ir.Limit("wan.in.x", 64, 2)), "limit"),
        (rule("x", "drop", DNS, effects=(ir.Log(),)), "`then`"),
        (rule("x", "drop", ir.And((Is("udp"), ir.Member(Field.SRC, "dyn")))), "members of dyn"),
        (rule("x", "drop", ir.And((Is("udp"), ir.Member(Field.SRC, "many")))), "many has 100 ranges"),
        (rule("x", "drop", ir.And((Is("udp"), Within(Field.DPORT, tuple((2 * n, 2 * n) for n in range(70)))))), "70 ranges"),
    ],
)
def test_what_a_nic_cannot_judge_goes_to_the_host_with_all_that_it_may_match(item: ir.Rule, words: str) -> None:
    half = split(item, rule("dns", "drop", DNS), rule("tcp", "drop", Is("tcp")))
    assert words in why(half, "x") and "wan.in.tcp" in half.counters
    assert half.steps[0].counter == ""


def test_a_rule_whose_packets_go_to_the_host_before_it_is_not_the_nics() -> None:
    half = split(rule("limited", "pass", Is("udp"), limit=ir.Limit("wan.in.l", 64, 2)), rule("dns", "drop", DNS))
    assert not half.counters and "go to the host at `limited`" in why(half, "dns")


def test_a_dynamic_set_of_all_packets_leaves_nothing() -> None:
    half = split(rule("banned", "drop", ir.Member(Field.SRC, "dyn")), rule("dns", "drop", DNS), default="drop")
    assert not half.steps and "`banned`" in why(half, "default")


def test_behind_connections_nothing_is_the_nics() -> None:
    half = split(rule("dns", "drop", DNS), rule("est", "pass", ir.Connection(("established",))), rule("late", "drop", Is("tcp")), default="drop", late=2)
    assert half.counters == ("wan.in.dns",) and "connection tracking" in why(half, "late") and "connection tracking" in why(half, "default")


def test_not_is_widened_too() -> None:
    """`not src in dyn` may be true as well as `src in dyn`: both where there is a source."""
    unknown = ir.Member(Field.SRC, "dyn")
    anything = Within(Field.SRC, ((0, ir.V4_LAST),))
    assert place_offload.may_be_true(unknown, SETS) == place_offload.may_be_true(ir.Not(unknown), SETS) == anything
    both = ir.Not(ir.And((Is("tcp"), unknown)))
    assert place_offload.may_be_true(both, SETS) == ir.Or((ir.Not(Is("tcp")), anything))
    assert place_offload.may_be_true(ir.Not(ir.Or((Is("tcp"), unknown))), SETS) == ir.And((ir.Not(Is("tcp")), anything))


def test_too_much_to_ask_ends_the_nics_part() -> None:
    ports = tuple((2 * n, 2 * n) for n in range(60))
    rules = tuple(rule(f"r{n}", "drop", ir.And((Is("tcp"), Within(Field.DPORT, ports), Within(Field.SPORT, ((n, n),))))) for n in range(40))
    half = split(*rules, default="drop", room=OffloadMaps(2, 4096))
    assert 10 < len(half.counters) < 30 and "too long" in why(half, f"r{len(half.counters)}") and sum(place_offload.cost(step.when) for step in half.steps) <= 1600


def test_covered_rules_are_nobodys() -> None:
    half = split(rule("a", "drop", Is("udp")), rule("b", "drop", ir.Const(False), covered=("a",)))
    assert half.counters == ("wan.in.a",) and [item.what for item in half.reasons] == ["wan.in.a"]


POLICY = """nic wan { device eth7; xdp offload }
set bad = { 198.51.100.0/24, 2001:db8::/32 }
set dyn : address size 1000 timeout 10m
filter wan in {
  drop src in bad as bogon
  pass icmp
  drop udp dport 53 as dns
  drop tcp dport 23 src in dyn as known
  drop tcp dport { 23, 2323 } as telnet
  drop udp dport 123 over 10pps as ntp
  default drop
}
"""
PLAN = """\
wan.in.bogon    nic, xdp  dropped and counted on the NIC; XDP on the host judges what the NIC passes on
wan.in.dns      nic, xdp  dropped and counted on the NIC; XDP on the host judges what the NIC passes on
wan.in.known    xdp       not on the NIC: it asks for members of dyn, which the host keeps
wan.in.telnet   nic, xdp  dropped and counted on the NIC; XDP on the host judges what the NIC passes on
wan.in.ntp      xdp       not on the NIC: it has a limit, and the host keeps the buckets
wan.in.default  nic, xdp  dropped and counted on the NIC; XDP on the host judges what the NIC passes on
wan.in          nic       4 of 6 that drop are on the NIC, which passes everything else to the host
"""
BODY = """\
    packet_t packet, *p = &packet;
    OPAQUE(p);
    u32 bytes = ON_NIC_LENGTH(ctx);
    netc_fill(p, bytes);
    netc_parse(p, (void *)(long)ctx->data, (void *)(long)ctx->data_end, bytes, 0, 0);
    if (CONTROL(p))
        return XDP_PASS;
    if (((p->src.at.family == 4 && ((u32)(p->src_lo - 3325256704u) <= 255u)) || (p->src.at.family == 6 && ((u64)(p->src_hi - 2306139568115548160ULL) <= 4294967295ULL)))) return netc_drop(MAP(1), 0, 0, bytes);
    if ((p->kinds & (KIND_icmp4 | KIND_icmp6))) return XDP_PASS;
    if (((p->kinds & KIND_udp) && (p->have & HAVE_dport) && (p->dport == 53u))) return netc_drop(MAP(1), 0, 1, bytes);
    if (p->kinds & KIND_tcp) {
    if (p->have & HAVE_dport) {
    if (((p->dport == 23u) && (p->src.at.family == 4 || p->src.at.family == 6))) return XDP_PASS;
    if (({ u32 v = p->dport; ((v == 23u) || (v == 2323u)); })) return netc_drop(MAP(1), 0, 2, bytes);
    }
    }
    if (((p->kinds & KIND_udp) && (p->have & HAVE_dport) && (p->dport == 123u))) return XDP_PASS;
    if (1) return netc_drop(MAP(1), 0, 3, bytes);
    return XDP_PASS;
}
"""


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> pipeline.Compilation:
    path = tmp_path_factory.mktemp("offload") / "p.netc"
    path.write_text(POLICY)
    return pipeline.compile_policy(path, profile.load(PROFILES / "netdevsim.yaml"), Sources())


def test_the_c_of_a_nics_program(made: pipeline.Compilation) -> None:
    assert made.sources["wan.offload"].partition("int netc(struct xdp_md *ctx)\n{\n")[2] == BODY


def test_the_plan_shows_the_split(made: pipeline.Compilation) -> None:
    lines = [line.split(maxsplit=1) for line in emit.stage(made, "plan").splitlines() if "NIC" in line and not line.startswith("wan ")]
    assert [" ".join(part.split()) for part in map(" ".join, lines)] == [" ".join(line.split()) for line in PLAN.splitlines()]
    host = next(item for item in made.bundle.placements if item.what == "wan")
    assert (host.stage, made.bundle.nics[0].xdp) == ("xdp generic", "generic") and "no native XDP" in host.reason


def test_the_bundle_has_what_the_nic_runs(made: pipeline.Compilation) -> None:
    (item,) = made.bundle.offloads
    assert (item.name, item.nic, item.elements, item.value_size) == ("wan.offload", "wan", 1, 64)
    assert item.counters == ("wan.in.bogon", "wan.in.dns", "wan.in.telnet", "wan.in.default")
    assert not made.changeable and [code.name for code in made.bundle.programs] == ["wan.xdp"]


def test_nothing_on_the_nic_is_a_warning(tmp_path: Path) -> None:
    path = tmp_path / "p.netc"
    path.write_text("nic wan { device eth7; xdp offload }\nfilter wan in { pass icmp; default pass }\n")
    found = pipeline.compile_policy(path, profile.load(PROFILES / "netdevsim.yaml"), Sources())
    assert [item.code for item in found.warnings] == ["W712"] and not found.bundle.offloads and found.bundle.programs


def test_a_large_policy_never_changes_in_place_behind_a_nic(tmp_path: Path) -> None:
    """The NIC would go on dropping what a changed rule passes."""
    path = tmp_path / "p.netc"
    rules = "".join(f"  drop src 10.{n // 200}.{n % 200}.0/24 dport {n % 60000 + 1} as r{n}\n" for n in range(2000))
    path.write_text(f"nic wan {{ device eth7; xdp offload }}\nfilter wan in {{\n{rules}  default pass\n}}\n")
    target = profile.load(PROFILES / "netdevsim.yaml")
    assert not pipeline.compile_policy(path, target, Sources()).changeable
    path.write_text(path.read_text().replace("xdp offload", "xdp generic"))
    assert pipeline.compile_policy(path, target, Sources()).changeable


def test_without_a_native_mode_the_nic_needs_room(tmp_path: Path) -> None:
    path = tmp_path / "p.netc"
    path.write_text(POLICY)
    target = profile.load(PROFILES / "netdevsim.yaml")
    none = msgspec.structs.replace(target, xdp=msgspec.structs.replace(target.xdp, offload_maps=OffloadMaps()))
    with pytest.raises(CompileError) as caught:
        pipeline.compile_policy(path, none, Sources())
    assert [item.code for item in caught.value.diagnostics] == ["N701"]
