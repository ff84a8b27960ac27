"""TCA_OPTIONS as the kernel's own tool writes them, and back."""

from __future__ import annotations

import pytest

from runtime.backends import tc, tc_options
from runtime.backends.netlink import attributes
from runtime.backends.tc_options import HtbParameters
from runtime.steps import tc_place

# What tc of iproute2 6.1 sent for the same words, taken with strace (little endian).
BY_TC = {
    "fq_codel": "0800020064000000080005004000000008000600 2c01000008000300a086010008000100881300000800040001000000 08000700d0070000 0800090040420f00",
    "codel": "080002003200000008000300a086010008000100881300000800040001000000",
    "fq": "0800010064000000080002000a00000008000300b80b00000800040028230000",
    "cake": "0800070050c3000008000800c409000008000a0040420f0008000b000100000008000d00010000000800110001000000",
}
OPTIONS = {
    "fq_codel": {
        "limit": 100, "flows": 64, "quantum": 300, "target": 5_000, "interval": 100_000, "ce_threshold": 2_000, "ecn": 1, "memory_limit": 1_000_000
    },
    "codel": {"limit": 50, "target": 5_000, "interval": 100_000, "ecn": 1},
    "fq": {"limit": 100, "flow_limit": 10, "quantum": 3_000, "initial_quantum": 9_000},
    "cake": {"rtt": 50_000, "target": 2_500, "memlimit": 1_000_000, "nat": 1, "wash": 1, "split-gso": 1},
}  # fmt: skip


@pytest.mark.parametrize("kind", BY_TC)
def test_attributes_are_those_of_tc(kind: str) -> None:
    made = tc_options.encode(kind, OPTIONS[kind])
    by_tc = bytes.fromhex(BY_TC[kind])
    assert attributes(made) == attributes(by_tc)
    assert tc_options.decode(kind, by_tc) == OPTIONS[kind]


def test_fifo_structures() -> None:
    assert tc_options.encode("pfifo", {"limit": 7}) == b"\x07\0\0\0"
    assert tc_options.encode("bfifo", {"limit": 7000}) == b"\x58\x1b\0\0"
    assert tc_options.encode("sfq", {"limit": 100, "quantum": 1500, "perturb": 10}) == bytes.fromhex("dc0500000a000000640000000000000000000000")


@pytest.mark.parametrize(
    ("kind", "options", "words"),
    [("red", {}, "kind 'red'"), ("pfifo", {"target": 1}, "no option 'target'"), ("fq", {"ecn": 1}, "no option 'ecn'"), ("fq", {"limit": -1}, "32 bits")],
)
def test_nothing_is_dropped_in_silence(kind: str, options: dict[str, int], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        tc_options.encode(kind, options)


def test_differences_are_named() -> None:
    assert tc_options.differs("pfifo", {"limit": 7}, {"limit": 7}) == ""
    assert tc_options.differs("pfifo", {"limit": 7}, {"limit": 8}) == "limit is 8, not 7"
    assert tc_options.differs("fq_codel", {"target": 5_000}, {"target": 4_999}) == "", "the kernel counts in 1.024 us"
    assert tc_options.differs("fq_codel", {"target": 5_000}, {}) == "target is None, not 5000"


@pytest.mark.parametrize("rate", [8_000, 10**6, 34 * 10**9, 400 * 10**9])
def test_htb_class_there_and_back(rate: int) -> None:
    """Above 2^32 bytes a second the rate needs an attribute of its own."""
    wanted = HtbParameters(rate, rate * 2, max(1600, rate // 2000), rate // 1000 + 1600, 1, 1600, 18)
    got = tc_options.decode_htb_class(tc_options.encode_htb_class(wanted))
    assert got is not None and (got.rate, got.ceil, got.prio, got.quantum, got.overhead) == (rate, rate * 2, 1, 1600, 18)
    assert tc_options.same_class(wanted, got, True)
    for field, value in (("rate", rate + 8), ("ceil", rate * 2 + 8), ("overhead", 17), ("quantum", 1601), ("prio", 0)):
        other = HtbParameters(**{**{name: getattr(wanted, name) for name in wanted.__dataclass_fields__}, field: value})
        assert not tc_options.same_class(other, got, True), field


@pytest.mark.parametrize(("text", "number"), [("root", 0xFFFFFFFF), ("1:", 0x10000), ("1:10", 0x10010), ("8001:", 0x80010000)])
def test_handles(text: str, number: int) -> None:
    assert tc.handle(text) == number
    assert tc.words(number) == text


@pytest.mark.parametrize("text", ["", "1", "1:2:3", "x:1", "1:10000", "-1:1"])
def test_handles_that_are_none(text: str) -> None:
    with pytest.raises(ValueError):
        tc.handle(text)


def test_two_generations_never_share_a_number() -> None:
    for generation in range(1, 30):
        base, following = tc_place.class_base(generation), tc_place.class_base(generation + 1)
        assert base != following and base < 0x8000
        assert tc_place.number("1:10", base) == 0x10010 + base
        assert tc_place.number("10:", base) == (0x10 + base) << 16 < 0x80000000
        assert [tc_place.number(text, base) for text in ("1:1", "1:2", "1:", "2:", "root")] == [0x10001, 0x10002, 0x10000, 0x20000, 0xFFFFFFFF]
        assert tc_place.base_of(tc_place.number("1:fff", base)) == base
