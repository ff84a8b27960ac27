"""The ledger of counters that left: nothing is lost, nothing is counted twice."""

from __future__ import annotations

from runtime import counters
from runtime.counters import Reading
from runtime.retired import Entry, carry
from tests.pure.runtime.bundles import counter

XDP = ("xdp", "wan.in")
NFT = ("conntrack", "wan.in")


def stage(name: str, seen: int, **rules: int) -> list[Reading]:
    made = [Reading(counter(f"wan.in.{rule}", name, "rule"), packets, packets * 60) for rule, packets in rules.items()]
    return [*made, Reading(counter("wan.in.seen", name, "seen"), seen, 0)]


def gaps(readings: list[Reading]) -> list[int]:
    return [balance.gap for balance in counters.balances(readings)]


def test_a_rule_that_left_is_still_in_the_balance() -> None:
    ledger = carry({}, {("xdp", "wan.in.web"): (2, 120)}, {("xdp", "wan.in.ssh")}, {XDP: 7})
    assert ledger == {"xdp wan.in": Entry(7, {"wan.in.web": (2, 120)})}
    whole = counters.with_retired(stage("xdp", 8, ssh=6), ledger)
    assert gaps(whole) == [0]
    assert [(r.counter.name, r.packets, r.bytes) for r in whole if r.counter.kind == "retired"] == [("wan.in.retired", 2, 120)]


def test_an_xdp_counter_that_comes_back_kept_its_slot_and_is_not_added_again() -> None:
    ledger = carry({"xdp wan.in": Entry(7, {"wan.in.web": (2, 120)})}, {}, {("xdp", "wan.in.web")}, {XDP: 9})
    assert ledger == {}


def test_an_nft_counter_that_comes_back_begins_at_0_and_goes_on_from_the_ledger() -> None:
    ledger = carry({}, {("conntrack", "wan.in.est"): (5, 300)}, set(), {NFT: 5})
    assert gaps(counters.with_retired(stage("conntrack", 5), ledger)) == [0]
    back = carry(ledger, {}, {("conntrack", "wan.in.est")}, {NFT: 6})
    whole = counters.with_retired(stage("conntrack", 8, est=3), back)
    assert [r.packets for r in whole if r.counter.name == "wan.in.est"] == [8] and gaps(whole) == [0]


def test_a_stage_that_began_anew_voids_its_entry() -> None:
    ledger = {"conntrack wan.in": Entry(100, {"wan.in.est": (90, 0)})}
    assert gaps(counters.with_retired(stage("conntrack", 3, est=3), ledger)) == [0]
    assert carry(ledger, {}, {("conntrack", "wan.in.est")}, {NFT: 3}) == {}


def test_what_a_stage_counted_is_added_when_it_comes_back() -> None:
    gone = {("conntrack", "wan.in.est"): (5, 0), ("conntrack", "wan.in.seen"): (5, 0), ("xdp", "wan.in.web"): (2, 0)}
    away = carry({}, gone, set(), {})
    assert away == {"xdp wan.in": Entry(0, {"wan.in.web": (2, 0)}), "conntrack wan.in": Entry(0, {"wan.in.est": (5, 0), "wan.in.seen": (5, 0)})}
    still = carry(away, {}, set(), {})
    assert still == away
    back = carry(still, {}, {("conntrack", "wan.in.est"), ("conntrack", "wan.in.seen")}, {NFT: 0})
    whole = counters.with_retired(stage("conntrack", 3, est=3), back)
    assert {r.counter.name: r.packets for r in whole} == {"wan.in.seen": 8, "wan.in.est": 8} and gaps(whole) == [0]


def test_an_expectation_never_reads_what_is_retired() -> None:
    whole = counters.with_retired(stage("xdp", 8, retired=6), {"xdp wan.in": Entry(1, {"wan.in.web": (2, 120)})})
    assert counters.value(whole, "wan.in.retired", "packets") == 6
