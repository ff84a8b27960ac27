"""What the language means, clause by clause (LANGUAGE.md, docs/packet-model.md), on the reference interpreter."""

from __future__ import annotations

import subprocess
import sys

import pytest

from compiler import frames, ir
from compiler.interp import Interpreter, Judgement

F = ir.Field
SECOND = 1_000_000_000
START = SECOND
TCP, UDP, ARP, ND = ir.Is("tcp"), ir.Is("udp"), ir.Is("arp"), ir.Is("nd")
DNS = ir.Within(F.DPORT, ((53, 53),))


def v4(text: str) -> int:
    a, b, c, d = map(int, text.split("."))
    return ir.V4_BASE + (a << 24 | b << 16 | c << 8 | d)


def rule(name: str, verdict: str, when: ir.Expr, limit: ir.Limit | None = None, *effects: ir.Effect) -> ir.Rule:
    return ir.Rule(name, verdict, when, limit, effects)


def program(
    *rules: ir.Rule, default: str = "drop", sets: tuple[ir.Set, ...] = (), direction: str = "in", **parts: object
) -> ir.Program:
    chain = ir.Chain(f"wan.{direction}", "wan", direction, None, rules, default)
    return ir.Program((ir.Nic("wan", "wan0"),), sets, (chain,), **parts)  # type: ignore[arg-type]


def words(
    proto: str, src: str, dst: str, sport: int | None = None, dport: int | None = None, *flags: str, **values: int | str
) -> bytes:
    return frames.build(ir.PacketSpec(proto, src, dst, sport, dport, (*((f, 1) for f in flags), *values.items())))


DNS_QUERY = words("udp", "203.0.113.9", "192.0.2.1", 5353, 53)
SSH_SYN = words("tcp", "203.0.113.9", "192.0.2.1", 40000, 22, "syn")
PING = words("icmp", "203.0.113.9", "192.0.2.1")
ARP_FRAME = words("arp", "192.0.2.2", "192.0.2.1")
ND_FRAME = words("nd", "2001:db8::2", "2001:db8::1")


def rule_of(interpreter: Interpreter, frame: bytes, now: int = START, direction: str = "in") -> str:
    return interpreter.judge(frame, "wan", direction, now).rule.removeprefix(f"wan.{direction}.")


def test_first_match_decides_and_is_counted() -> None:
    interpreter = Interpreter(
        program(rule("dns", "pass", ir.And((UDP, DNS))), rule("udp", "drop", UDP), rule("all", "pass", ir.Const(True)))
    )
    assert interpreter.judge(DNS_QUERY, "wan", "in", START) == Judgement("pass", "wan.in.dns", 60)
    assert rule_of(interpreter, SSH_SYN) == "all"
    assert interpreter.counters["wan.in.seen"] == [2, 120]
    assert interpreter.counters["wan.in.udp"] == [0, 0]


def test_no_chain_passes_uncounted() -> None:
    interpreter = Interpreter(program(rule("udp", "drop", UDP)))
    assert interpreter.judge(DNS_QUERY, "wan", "out", START) == Judgement("pass", "", 60)
    assert all(counter == [0, 0] for counter in interpreter.counters.values())


@pytest.mark.parametrize("field", [F.SPORT, F.DPORT, F.TCP_FLAGS, F.ICMP_TYPE])
def test_absent_is_not_false(field: ir.Field) -> None:
    """Neither a test of an absent field nor its negation matches; beside it true wins in Or and false in And."""
    test = ir.Within(field, ((0, 5),))
    frame = PING if field is not F.ICMP_TYPE else DNS_QUERY
    for when, matches in (
        (test, False),
        (ir.Not(test), False),
        (ir.Or((test, ir.Const(True))), True),
        (ir.Or((test, ir.Const(False))), False),
        (ir.Not(ir.And((test, ir.Const(False)))), True),
        (ir.Not(ir.And((test, ir.Const(True)))), False),
        (ir.Not(ir.Or((ir.Const(True), test))), False),
    ):
        assert (rule_of(Interpreter(program(rule("x", "pass", when))), frame) == "x") is matches, when


def test_bits_and_kinds() -> None:
    syn = ir.Bits(F.TCP_FLAGS, 0x17, 0x02)
    interpreter = Interpreter(
        program(rule("syn", "drop", syn), rule("other", "pass", ir.Not(syn)), rule("no-tcp", "pass", ir.Not(TCP)))
    )
    assert rule_of(interpreter, SSH_SYN) == "syn"
    assert rule_of(interpreter, words("tcp", "192.0.2.9", "192.0.2.1", 1, 2, "syn", "ack")) == "other"
    assert rule_of(interpreter, DNS_QUERY) == "no-tcp"


def test_an_empty_set_matches_nothing_and_its_negation_everything_present() -> None:
    sets = (ir.Set("none", "port"),)
    member = ir.Member(F.DPORT, "none")
    interpreter = Interpreter(program(rule("in", "drop", member), rule("not-in", "pass", ir.Not(member)), sets=sets))
    assert (rule_of(interpreter, DNS_QUERY), rule_of(interpreter, PING)) == ("not-in", "default")


def test_sets_hold_their_ranges_exactly() -> None:
    sets = (ir.Set("nets", "address", ((5, 9), (v4("192.0.2.0"), v4("192.0.2.255")))),)
    interpreter = Interpreter(program(rule("in", "pass", ir.Member(F.SRC, "nets")), sets=sets))
    for source, wanted in (
        ("192.0.1.255", "default"),
        ("192.0.2.0", "in"),
        ("192.0.2.255", "in"),
        ("192.0.3.0", "default"),
    ):
        assert rule_of(interpreter, words("udp", source, "192.0.2.1", 1, 2)) == wanted
    for source, wanted in (("::4", "default"), ("::5", "in"), ("::9", "in"), ("::a", "default")):
        assert rule_of(interpreter, words("udp", source, "::1", 1, 2)) == wanted


def test_control_passes_first_unless_a_rule_names_it() -> None:
    everything = rule("all", "drop", ir.Const(True))
    interpreter = Interpreter(program(everything))
    assert interpreter.judge(ARP_FRAME, "wan", "in", START).rule == "wan.in.control"
    assert rule_of(interpreter, ND_FRAME) == "control"
    assert interpreter.counters["wan.in.control"] == [2, 60 + len(ND_FRAME)]
    named = Interpreter(program(rule("not-arp", "drop", ir.Not(ARP)), rule("arp", "drop", ir.Or((ARP, TCP)))))
    assert rule_of(named, ARP_FRAME) == "arp"
    assert rule_of(named, ND_FRAME) == "control"
    assert rule_of(named, DNS_QUERY) == "not-arp"


def test_the_early_stage_hands_on_ip_and_finishes_the_rest() -> None:
    established = ir.Connection(("established",))
    rules = (rule("dns", "pass", ir.And((UDP, DNS))), rule("est", "pass", established), rule("nd", "drop", ir.And((ND, ir.Not(established)))),
             rule("arp", "drop", ARP), rule("rest", "pass", ir.Not(ir.Is("ip4"))))  # fmt: skip
    interpreter = Interpreter(program(*rules), {"wan.in": 1})
    assert interpreter.judge(SSH_SYN, "wan", "in", START).verdict == "handed-on"
    assert [rule_of(interpreter, frame) for frame in (DNS_QUERY, SSH_SYN, ARP_FRAME, ND_FRAME)] == [
        "dns",
        "handed-on",
        "arp",
        "control",
    ]
    assert rule_of(interpreter, bytes(12) + b"\x12\x34" + bytes(46)) == "rest"
    seen = interpreter.counters["wan.in.seen"][0]
    assert seen == 6 == sum(c[0] for name, c in interpreter.counters.items() if name != "wan.in.seen")


def limit(interval: int, burst: int, **options: object) -> ir.Limit:
    return ir.Limit("wan.in.x", interval * 64, burst, **options)  # type: ignore[arg-type]


def test_a_limit_takes_a_token_a_match_and_then_the_next_rule_decides() -> None:
    interpreter = Interpreter(program(rule("x", "pass", UDP, limit(SECOND, 2)), rule("over", "drop", UDP)))
    judged = [
        rule_of(interpreter, DNS_QUERY, START + t)
        for t in (0, 0, 0, SECOND - 1, SECOND, SECOND, 3 * SECOND, 3 * SECOND, 3 * SECOND)
    ]
    assert judged == ["x", "x", "over", "over", "x", "over", "x", "x", "over"]
    assert rule_of(interpreter, SSH_SYN) == "default"


def test_over_matches_only_past_the_rate() -> None:
    interpreter = Interpreter(program(rule("x", "drop", UDP, limit(SECOND, 1, over=True)), default="pass"))
    assert [rule_of(interpreter, DNS_QUERY, START + t) for t in (0, 1, SECOND, SECOND + 1)] == [
        "default",
        "x",
        "default",
        "x",
    ]


def test_per_source_is_by_prefix_and_absent_sources_do_not_match() -> None:
    interpreter = Interpreter(
        program(rule("x", "pass", ir.Or((UDP, ARP)), limit(SECOND, 1, per=F.SRC, v4_prefix=24)), default="drop")
    )
    sources = ("203.0.113.9", "203.0.113.10", "203.0.114.9", "2001:db8::1", "2001:db8::ffff:1", "2001:db8:0:1::1")
    judged = [rule_of(interpreter, words("udp", s, "192.0.2.1" if "." in s else "::1", 1, 2)) for s in sources]
    assert judged == ["x", "default", "x", "x", "default", "x"]
    assert rule_of(interpreter, ARP_FRAME) == "control"


def test_sources_without_room_share_one_bucket_and_idle_ones_make_room() -> None:
    interpreter = Interpreter(program(rule("x", "pass", UDP, limit(SECOND, 1, per=F.SRC, size=2))))

    def judge(last: int, at: int) -> str:
        return rule_of(interpreter, words("udp", f"203.0.113.{last}", "192.0.2.1", 1, 2), START + at)

    assert [judge(last, 0) for last in (1, 2, 3, 4)] == ["x", "x", "x", "default"]
    assert judge(3, SECOND) == "x"  # 1 is idle: 3 takes its slot
    assert [judge(last, SECOND) for last in (3, 2, 1)] == ["default", "x", "x"]  # 1 has the shared bucket now
    assert judge(4, SECOND) == "default"


def test_the_hand_looks_at_four_slots_and_stands_behind_the_last() -> None:
    sets = (ir.Set("s", "address", size=6, timeout=10 * SECOND),)
    interpreter = Interpreter(program(rule("x", "pass", UDP, None, ir.Add("s", F.SRC, None)), sets=sets))
    for index, timeout in enumerate((9, 9, 9, 9, 9, 1)):
        assert interpreter.give("s", 100 + index, START, timeout * SECOND) == ""
    now = START + 2 * SECOND
    assert interpreter.give("s", 200, now) == "full"  # slots 0..3 are live; the expired one is the sixth
    assert interpreter.give("s", 200, now) == ""  # the hand went on: 4, 5
    assert interpreter.sets["s"].holds(200, now) and not interpreter.sets["s"].holds(105, now)
    assert interpreter.give("s", 201, now) == "full"  # 0..3
    assert interpreter.give("s", 201, START + 9 * SECOND) == ""  # 4 expires at 9 s
    assert not interpreter.sets["s"].holds(104, START)


def test_full_evict_takes_the_slot_under_the_hand() -> None:
    sets = (ir.Set("s", "address", size=5, full="evict"),)
    interpreter = Interpreter(program(sets=sets))
    for key in (0, 1, 2, 3, 4, 5):
        assert interpreter.give("s", key, START) == ""
    assert [interpreter.sets["s"].holds(key, START) for key in range(6)] == [True, True, True, True, False, True]
    interpreter.give("s", 6, START)  # hand at 0: looks at 0..3, takes 4 again
    assert [interpreter.sets["s"].holds(key, START) for key in (0, 5, 6)] == [True, False, True]


def test_adding_banning_and_expiring() -> None:
    banned = ir.Set("banned", "address", size=2, timeout=10 * SECOND, never=("office",))
    sets = (ir.Set("office", "address", ((v4("198.51.100.0"), v4("198.51.100.255")),)), banned)
    interpreter = Interpreter(program(
        rule("banned", "drop", ir.Member(F.SRC, "banned")), rule("scan", "drop", TCP, None, ir.Add("banned", F.SRC, None)),
        rule("short", "drop", UDP, None, ir.Add("banned", F.SRC, SECOND, renew=True)), sets=sets,
    ))  # fmt: skip
    assert rule_of(interpreter, DNS_QUERY) == "short"
    assert rule_of(interpreter, SSH_SYN) == "banned"
    assert rule_of(interpreter, SSH_SYN, START + SECOND) == "scan"
    assert rule_of(interpreter, DNS_QUERY, START + 11 * SECOND - 1) == "banned"
    office = words("tcp", "198.51.100.7", "192.0.2.1", 1, 2)
    assert [rule_of(interpreter, office) for _ in range(2)] == ["scan", "scan"]
    assert interpreter.counters["banned.never"] == [2, 120]
    for last in (1, 2):
        rule_of(interpreter, words("tcp", f"192.0.2.{last}", "192.0.2.1", 1, 2))
    assert interpreter.counters["banned.full"] == [1, 60]


def test_add_leaves_a_live_timeout_alone_and_renew_restarts_it() -> None:
    for renew, live in ((False, False), (True, True)):
        sets = (ir.Set("s", "address", size=2, timeout=10 * SECOND),)
        interpreter = Interpreter(program(rule("x", "pass", UDP, None, ir.Add("s", F.SRC, None, renew)), sets=sets))
        rule_of(interpreter, DNS_QUERY, START)
        rule_of(interpreter, DNS_QUERY, START + 5 * SECOND)
        assert interpreter.sets["s"].holds(v4("203.0.113.9"), START + 12 * SECOND) is live


def test_giving_to_a_static_set_is_refused() -> None:
    with pytest.raises(TypeError, match="not a dynamic set"):
        Interpreter(program(sets=(ir.Set("office", "address"),))).give("office", 1, START)


STATES = tuple(rule(s, "pass" if s != "invalid" else "drop", ir.Connection((s,))) for s in ir.CONNECTION_STATES)


def test_connections_over_both_directions() -> None:
    chains = (
        ir.Chain("wan.in", "wan", "in", None, STATES, "drop"),
        ir.Chain("wan.out", "wan", "out", None, (), "pass"),
    )
    interpreter = Interpreter(ir.Program((ir.Nic("wan", "w"),), chains=chains))
    out = words("tcp", "192.0.2.1", "203.0.113.9", 50000, 443, "syn")
    answer = words("tcp", "203.0.113.9", "192.0.2.1", 443, 50000, "syn", "ack")
    assert rule_of(interpreter, answer) == "invalid"
    rule_of(interpreter, out, direction="out")
    assert rule_of(interpreter, answer) == "established"
    assert [rule_of(interpreter, SSH_SYN) for _ in range(2)] == ["new", "new"]
    assert rule_of(interpreter, words("tcp", "203.0.113.9", "192.0.2.1", 1, 2, "ack")) == "invalid"
    assert rule_of(interpreter, DNS_QUERY) == "new"
    rule_of(interpreter, words("udp", "192.0.2.1", "203.0.113.9", 53, 5353), direction="out")
    assert rule_of(interpreter, DNS_QUERY) == "established"
    assert rule_of(interpreter, DNS_QUERY, START + 121 * SECOND) == "new"
    assert rule_of(interpreter, words("icmp", "203.0.113.9", "192.0.2.1", None, None, "echo-reply")) == "invalid"
    rule_of(interpreter, words("icmp", "192.0.2.1", "203.0.113.9"), direction="out")
    assert rule_of(interpreter, words("icmp", "203.0.113.9", "192.0.2.1", None, None, "echo-reply")) == "established"
    assert rule_of(interpreter, words("udp", "203.0.113.9", "192.0.2.1", 1, 2, "malformed")) == "invalid"
    assert rule_of(interpreter, words("udp", "203.0.113.9", "192.0.2.1", 1, 2, "later-fragment")) == "default"


@pytest.mark.parametrize("family", [4, 6])
def test_an_icmp_error_that_quotes_a_flow_is_related(family: int) -> None:
    here, there = ("192.0.2.1", "203.0.113.9") if family == 4 else ("2001:db8::1", "2001:db8::9")
    chains = (
        ir.Chain("wan.in", "wan", "in", None, STATES, "drop"),
        ir.Chain("wan.out", "wan", "out", None, (), "pass"),
    )
    interpreter = Interpreter(ir.Program((ir.Nic("wan", "w"),), chains=chains))
    sent = words("udp", here, there, 50000, 53)
    quoted = sent[14 : 14 + (28 if family == 4 else 48)]
    error = (
        words("icmp", there, here, None, None, "destination-unreachable", "unpadded", payload=len(quoted))[
            : -len(quoted)
        ]
        + quoted
    )
    assert rule_of(interpreter, error) == "invalid"
    rule_of(interpreter, sent, direction="out")
    assert rule_of(interpreter, error) == "related"


def test_dropped_packets_make_no_flow() -> None:
    interpreter = Interpreter(program(rule("est", "pass", ir.Connection(("established",))), default="drop"))
    rule_of(interpreter, DNS_QUERY)
    assert rule_of(interpreter, words("udp", "192.0.2.1", "203.0.113.9", 53, 5353)) == "default"


def test_steering() -> None:
    steer = ir.Steer("wan.steer", "wan", (
        ir.SteerRule("dns", DNS, ir.Target("socket", name="cap")), ir.SteerRule("udp", UDP, ir.Target("cpus", (1,))),
        ir.SteerRule("arp", ARP, ir.Target("queues", (3,))),
    ), ir.Target("queues", (0, 1)))  # fmt: skip
    rules = (
        rule("no-icmp", "drop", ir.Is("icmp4")),
        rule("dns", "pass", ir.And((DNS, ir.Within(F.SPORT, ((1, 1),))))),
        rule("s", "pass", ir.Connection(("new",))),
    )
    interpreter = Interpreter(program(*rules, default="pass", steers=(steer,)), {"wan.in": 2})

    def steered(frame: bytes) -> tuple[str, str]:
        judged = interpreter.judge(frame, "wan", "in", START)
        return judged.verdict, judged.steer

    assert steered(words("udp", "203.0.113.9", "192.0.2.1", 1, 53)) == ("pass", "wan.steer.dns")
    assert steered(DNS_QUERY) == ("handed-on", "wan.steer.udp")  # it is not wholly judged: no socket
    assert steered(SSH_SYN) == ("handed-on", "wan.steer.default")
    assert steered(PING) == ("drop", "")
    assert steered(ARP_FRAME) == ("pass", "wan.steer.arp")
    assert steered(ND_FRAME) == ("pass", "")  # control: not even the default
    assert interpreter.judge(SSH_SYN, "wan", "in", START).target == ir.Target("queues", (0, 1))
    assert interpreter.counters["wan.steer.default"] == [2, 120]


def test_what_steering_drops() -> None:
    """The steer rule has the last word, both rules are counted, no class and no connection sees the packet."""
    steer = ir.Steer("wan.steer", "wan", (ir.SteerRule("junk", DNS, ir.Target("drop")),), ir.Target("cpus", (1,)))
    shape = ir.Shape("wan.shape.in", "wan", "in", 10**9, 0, (ir.Class("all", None),))
    rules = (rule("udp", "pass", UDP), rule("est", "pass", ir.Connection(("established",))))
    chains = (ir.Chain("wan.in", "wan", "in", None, rules, "drop"), ir.Chain("wan.out", "wan", "out", None, (rule("back", "pass", ir.Connection(("established",))),), "drop"))
    interpreter = Interpreter(ir.Program((ir.Nic("wan", "w"),), chains=chains, steers=(steer,), shapes=(shape,)))
    judged = interpreter.judge(DNS_QUERY, "wan", "in", START)
    assert (judged.verdict, judged.rule, judged.steer, judged.target, judged.shape) == ("drop", "wan.steer.junk", "wan.steer.junk", ir.Target("drop"), "")
    assert interpreter.counters["wan.in.udp"][0] == interpreter.counters["wan.steer.junk"][0] == 1
    assert interpreter.judge(words("udp", "192.0.2.1", "203.0.113.9", 53, 5353), "wan", "out", START).verdict == "drop", "nothing was remembered"
    assert interpreter.judge(PING, "wan", "in", START).steer == "", "the filter drops first"
    early = Interpreter(ir.Program((ir.Nic("wan", "w"),), chains=(ir.Chain("wan.in", "wan", "in", None, rules[1:], "drop"),), steers=(steer,)), {"wan.in": 0})
    assert early.judge(DNS_QUERY, "wan", "in", START).steer == "wan.steer.default", "what is not wholly judged is not dropped"


def test_classes() -> None:
    classes = (ir.Class("rest", None), ir.Class("udp", UDP, classes=(ir.Class("dns", DNS), ir.Class("udp-rest", None))))
    shape = ir.Shape("wan.shape.out", "wan", "out", 1000, 0, classes)
    interpreter = Interpreter(
        program(rule("no-ping", "drop", ir.Is("icmp4")), default="pass", direction="out", shapes=(shape,))
    )
    got = [
        interpreter.judge(f, "wan", "out", START).shape.removeprefix("wan.shape.out.")
        for f in (DNS_QUERY, words("udp", "192.0.2.9", "192.0.2.1", 1, 2), SSH_SYN, ARP_FRAME, PING)
    ]
    assert got == ["dns", "udp-rest", "rest", "rest", ""]
    assert interpreter.counters["wan.shape.out.rest"] == [2, 120]


def test_forward_chains_are_told_apart_by_their_target() -> None:
    nics = tuple(ir.Nic(name, name) for name in ("wan", "lan", "dmz"))
    chains = tuple(
        ir.Chain(f"wan->{to}", "wan", "forward", to, (), verdict) for to, verdict in (("lan", "pass"), ("dmz", "drop"))
    )
    interpreter = Interpreter(ir.Program(nics, chains=chains))
    assert interpreter.judge(SSH_SYN, "wan", "forward", START, to="dmz").rule == "wan->dmz.default"
    assert interpreter.judge(SSH_SYN, "wan", "forward", START, to="lan").verdict == "pass"


def test_time_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 ns"):
        Interpreter(program()).judge(SSH_SYN, "wan", "in", 0)


def test_it_shares_no_code_with_the_lowering() -> None:
    """A mistake in the lowering cannot be in the definition too: the reference imports the IR and its own parts only."""
    code = (
        "import sys, compiler.interp; print(*sorted(m for m in sys.modules if m.startswith(('compiler.', 'runtime'))))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    own = ("interp", "interp_conntrack", "interp_state", "ir", "packet", "source")
    assert loaded == [f"compiler.{name}" for name in own]
