"""Balance, expectations and OpenMetrics from readings that are made up."""

from __future__ import annotations

import pytest

from runtime import counters, verify
from runtime.counters import Reading
from tests.pure.runtime.bundles import counter, expect, small_bundle


def readings(seen: int = 10, ssh: int = 4, default: int = 3, control: int = 1, handed: int = 2) -> list[Reading]:
    counts = {"seen": seen, "ssh": ssh, "default": default, "control": control, "handed-on": handed}
    early = [Reading(counter(f"wan.in.{n}", "xdp", n if n != "ssh" else "rule"), v, v * 60) for n, v in counts.items()]
    late = [
        Reading(counter("wan.in.seen", "conntrack", "seen"), handed, 0),
        Reading(counter("wan.in.est", "conntrack", "rule"), handed - 1, 0),
        Reading(counter("wan.in.default", "conntrack", "default"), 1, 0),
    ]
    shaped = [
        Reading(counter("wan.shape.out.seen", "tc", "seen"), 5, 0),
        Reading(counter("wan.shape.out.voice", "tc", "class"), 5, 0, 7, 0),
        Reading(counter("wan.in.banned.full", "xdp", "other"), 99, 0),
    ]
    return [*early, *late, *shaped]


def test_every_stage_of_every_chain_balances_by_itself() -> None:
    found = {(b.chain, b.stage): (b.seen, b.counted) for b in counters.balances(readings())}
    assert found == {("wan.in", "xdp"): (10, 10), ("wan.in", "conntrack"): (2, 2), ("wan.shape.out", "tc"): (5, 5)}


@pytest.mark.parametrize(("seen", "wrong"), [(10, []), (11, [1]), (9, [-1])])
def test_standing_traffic_is_judged_exactly(seen: int, wrong: list[int]) -> None:
    got = readings(seen=seen)
    assert [b.gap for b in counters.unbalanced(got, got, got)] == wrong


@pytest.mark.parametrize(("before", "after", "wrong"), [(8, 12, 0), (10, 10, 0), (11, 12, 1), (8, 9, 1)])
def test_under_traffic_the_rules_lie_between_two_readings_of_seen(before: int, after: int, wrong: int) -> None:
    assert len(counters.unbalanced(readings(seen=before), readings(), readings(seen=after))) == wrong


@pytest.mark.parametrize(
    ("name", "what", "value"),
    [("wan.in.seen", "packets", 10), ("wan.in.default", "packets", 4), ("wan.in.ssh", "bytes", 240), ("wan.shape.out.voice", "drops", 7)],
)
def test_a_value_by_name(name: str, what: str, value: int) -> None:
    assert counters.value(readings(), name, what) == value


@pytest.mark.parametrize(
    ("made", "result"),
    [
        (expect("wan.in.ssh", ">", 0), "held"), (expect("wan.in.ssh", ">", 4), "broken"), (expect("wan.in.ssh", "=", 4), "held"),
        (expect("wan.in.ssh", "<", 0.4, "wan.in.seen"), "broken"), (expect("wan.in.ssh", "<=", 0.4, "wan.in.seen"), "held"),
        (expect("wan.shape.out.voice", "=", 7, what="drops"), "held"), (expect("wan.in.nobody", ">", 0), "broken"),
        (expect("wan.in.ssh", "=", 0, what="drops"), "broken"),
    ],
)  # fmt: skip
def test_expectations(made: verify.bundles.Expect, result: str) -> None:  # type: ignore[name-defined]
    finding = verify.expectations(small_bundle(expects=(made,)), None, readings())[0]
    assert finding.result == result and finding.where == "p.netc:9"
    assert verify.rolls_back([finding]) == (result == "broken") == verify.failed([finding])


def test_an_expectation_is_measured_over_its_window() -> None:
    bundle = small_bundle(expects=(expect("wan.in.ssh", "=", 3), expect("wan.in.ssh", "<", 0.5, "wan.in.seen")))
    found = verify.expectations(bundle, readings(ssh=1, seen=10), readings(ssh=4, seen=10))
    assert [f.result for f in found] == ["held", "no traffic"]
    assert "is 3, wanted = 3" in found[0].detail


def test_a_warning_breaks_nothing() -> None:
    finding = verify.expectations(small_bundle(expects=(expect("wan.in.ssh", ">", 9, otherwise="warn"),)), None, readings())[0]
    assert finding.result == "broken" and not verify.failed([finding]) and not verify.rolls_back([finding])


def test_openmetrics_escapes_and_ends() -> None:
    hostile = Reading(counter('a"b\\c\nd', "xdp", "rule", verdict="drop"), 1, 2)
    text = counters.openmetrics([hostile])
    assert text.endswith("# EOF\n")
    assert 'netc_packets_total{name="a\\"b\\\\c\\nd",stage="xdp",kind="rule",verdict="drop"} 1\n' in text
    assert "netc_drops_total" not in text
