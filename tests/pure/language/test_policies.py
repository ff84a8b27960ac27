"""Good policies: the description's whole example, a policy with every form, and the five that netc ships."""

from __future__ import annotations

from pathlib import Path

import pytest

from compiler import essentials, ir, ir_spec, ir_text
from compiler.frontend import load
from compiler.source import Sources

HERE = Path(__file__).parent / "good"
GOOD = sorted(HERE.glob("*.netc"))
SHIPPED = sorted((Path(__file__).parents[3] / "policies").glob("*.netc"))


def program(path: Path) -> ir.Program:
    return load(path, Sources()).program


@pytest.mark.parametrize("path", [*GOOD, *SHIPPED], ids=lambda path: path.stem)
def test_a_good_policy_is_a_legal_program(path: Path) -> None:
    made = program(path)
    ir_spec.check(made)
    assert ir_text.parse(ir_text.dump(made)) is not None
    assert made == program(path)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_what_netc_ships_has_no_lints(path: Path) -> None:
    assert load(path, Sources()).warnings == []


def test_there_are_policies() -> None:
    assert len(GOOD) == 2
    assert len(SHIPPED) >= 5


@pytest.fixture(scope="module")
def example() -> ir.Program:
    return program(HERE / "example.netc")


def test_example_chain(example: ir.Program) -> None:
    (chain,) = example.chains
    names = ["bogon", "banned", "junk", "ssh", "ssh-scan", "dns", "dns-over", "web", "ping"]
    assert [rule.name for rule in chain.rules] == [*names, *essentials.NAMES]
    assert (chain.name, chain.nic, chain.direction, chain.to, chain.default) == ("wan.in", "wan", "in", None, "drop")
    assert chain.rules[4].effects == (ir.Add("banned", ir.Field.SRC, 600 * 10**9), ir.Sample(100))
    assert chain.rules[5].limit == ir.Limit("wan.in.dns", 3_200_000, 4000, per=ir.Field.SRC)
    assert chain.rules[8].limit == ir.Limit("wan.in.ping", 640_000_000, 10)
    assert chain.rules[5].text == "pass udp dport 53 limit 20kpps burst 4k per src as dns"
    assert [rule.span.line for rule in chain.rules[-4:]] == [chain.rules[8].span.line + 1] * 4


def test_example_sets(example: ir.Program) -> None:
    sets = {item.name: item for item in example.sets}
    assert sets["banned"].size == 100_000
    assert sets["banned"].timeout == 600 * 10**9
    assert (sets["banned"].never, sets["banned"].full) == (("office",), "keep")
    assert sets["web"].ranges == ((80, 80), (443, 443), (8080, 8089))
    assert sets["bogons"].type == "address"
    assert (ir.V4_BASE + (10 << 24), ir.V4_BASE + (11 << 24) - 1) in sets["bogons"].ranges
    assert (1, 1) in sets["bogons"].ranges


def test_example_steering(example: ir.Program) -> None:
    (steer,) = example.steers
    assert [rule.target for rule in steer.rules] == [
        ir.Target("queues", (7,)), ir.Target("queues", (0, 1, 2, 3, 4, 5)), ir.Target("cpus", (2, 3)),
        ir.Target("socket", name="capture"), ir.Target("nic", name="lan"),
    ]  # fmt: skip
    assert steer.default == ir.Target("queues", tuple(range(7)))
    assert steer.rules[0].name == "udp-dport-53"


def test_example_settings(example: ir.Program) -> None:
    found = {(s.nic, s.group, s.key): (s.value, s.prefer) for s in example.settings}
    cpus = tuple(range(8))
    both = ("src-ip", "dst-ip", "src-port", "dst-port")
    assert found == {
        ("wan", "channels", "combined"): (8, True), ("wan", "irq", "cpus"): (cpus, True), ("wan", "xps", "cpus"): (cpus, True),
        ("wan", "hash", "tcp4"): (both, True), ("wan", "hash", "tcp6"): (both, True), ("wan", "hash", "udp4"): (both, True),
        ("wan", "hash", "udp6"): (both, True), ("wan", "hash", "symmetric"): (1, True), ("wan", "ring", "rx"): ("max", True),
        ("wan", "ring", "tx"): (1024, True), ("wan", "coalesce", "adaptive-rx"): (1, True),
        ("wan", "coalesce", "adaptive-tx"): (1, True), ("wan", "feature", "gro"): (1, False), ("wan", "feature", "lro"): (0, False),
        ("wan", "feature", "tso"): (1, False), ("", "sysctl", "net.ipv4.tcp_congestion_control"): ("bbr", False),
    }  # fmt: skip


def test_example_shapes(example: ir.Program) -> None:
    out, into = example.shapes
    voice, web, bulk = out.classes
    assert (out.rate, out.overhead, into.rate, into.direction) == (10**9, 0, 9 * 10**8, "in")
    assert (voice.min, voice.max, voice.urgent, web.share, bulk.when) == (50 * 10**6, 2 * 10**8, True, 3, None)
    assert bulk.queues == (ir.Queue("fq_codel", (("target", 5_000_000),)), ir.Queue("pfifo"))


def test_example_promises(example: ir.Program) -> None:
    (expect,) = example.expects
    assert (expect.window, expect.otherwise) == (30 * 10**9, "roll-back")
    counters = [(a.counter, a.what, a.op, a.bound, a.of) for a in expect.assertions]
    assert counters == [
        ("wan.in.ssh", "packets", ">", 0, ""), ("wan.in.bogon", "packets", "<", 0.05, "wan.in.seen"),
        ("wan.shape.out.voice", "drops", "=", 0, ""),
    ]  # fmt: skip
    assert [p.text for p in example.protects] == ["tcp dport 22 src in office"]


def test_example_tests(example: ir.Program) -> None:
    first, second = example.tests[0].steps
    assert first.packet == ir.PacketSpec("tcp", "203.0.113.9", "192.0.2.1", 40000, 22, (("syn", 1),))
    assert (first.kind, first.nic, first.direction, first.verdict, first.rule) == (
        "packet",
        "wan",
        "in",
        "drop",
        "ssh-scan",
    )
    send = example.tests[1].steps[0]
    assert (send.kind, send.count, send.over, send.low, send.high, send.verdict) == (
        "send",
        30000,
        10**9,
        23990,
        24000,
        "pass",
    )
    assert second.rule == "banned"


def test_everything_is_there() -> None:
    made = program(HERE / "everything.netc")
    chains = {chain.name: chain for chain in made.chains}
    assert set(chains) == {"wan.in", "dmz.in", "wan.out", "wan->lan", "lan->wan"}
    assert chains["wan->lan"].to == "lan"
    assert [r.name for r in chains["wan.in"].rules] == [r.name for r in chains["dmz.in"].rules]
    assert chains["wan.in"].rules[4].limit == ir.Limit("wan.in.dns6", 6_400_000_000, 5)
    assert chains["wan.out"].rules[0].effects == (ir.SetDscp(48),)
    site = made.shapes[0].classes[1]
    assert [c.name for c in site.classes] == ["web", "rest"]
    assert site.classes[1].queues == (ir.Queue("cake", (("rtt", 50_000_000), ("nat", 1))),)
    assert made.shapes[0].classes[2].min == 10_500_000
    values = {(s.group, s.key): s.value for s in made.settings}
    assert values["sysctl", "net.ipv4.tcp_rmem"] == (4096, 131072, 6291456)
    assert values["irq", "cpus"] == (0, 2, 4, 5)
    assert (values["coalesce", "rx-usecs"], values["coalesce", "rx-frames"], values["coalesce", "adaptive-rx"]) == (
        50,
        64,
        0,
    )
    assert (values["pause", "tx"], values["priv-flag", "rx_striding_rq"]) == (0, 1)
    assert (values["rps", "cpus"], values["rfs", "flows"]) == ((0, 1), 32_000)
    assert [s.value for s in made.settings if (s.nic, s.group) == ("dmz", "xps")] == [(0, 2, 3)]
    assert str(values["hash", "key"]).startswith("6d5a56da25") and len(str(values["hash", "key"])) == 80
    assert [r.target for r in made.steers[0].rules if r.name == "discard"] == [ir.Target("drop")]
    assert {a.counter for a in made.expects[0].assertions} >= {
        "wan->lan.pass-established",
        "wan.shape.out.web",
        "wan.steer.dns",
        "banned.never",
    }
