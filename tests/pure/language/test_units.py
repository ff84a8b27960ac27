"""Numbers with units, and values of fields."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler import types, units
from compiler.check_shape import QUEUES
from compiler.findings import LiteralError
from compiler.ir import V4_BASE
from compiler.targets import tc_queues


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (units.bit_rate, "1gbit", 10**9), (units.bit_rate, "1.5mbit", 1_500_000), (units.bit_rate, "64kbit", 64000),
        (units.packet_rate, "20kpps", 20000), (units.packet_rate, "0.5pps", Fraction(1, 2)), (units.packet_rate, "1Mpps", 10**6),
        (units.duration, "50us", 50_000), (units.duration, "10m", 600 * 10**9), (units.duration, "2d", 2 * 86400 * 10**9),
        (units.size, "64kib", 65536), (units.size, "1500", 1500), (units.size, "1kb", 1000),
        (lambda text: units.count(text, "x"), "4k", 4000), (lambda text: units.count(text, "x"), "1M", 10**6),
    ],
)  # fmt: skip
def test_right(parse: Callable[[str], object], text: str, value: object) -> None:
    assert parse(text) == value


@pytest.mark.parametrize(
    ("parse", "text", "code", "help"),
    [
        (units.bit_rate, "100mbps", "N030", "100mbit"), (units.bit_rate, "1Gbit", "N030", "1gbit"), (units.bit_rate, "5ms", "N030", "1gbit"),
        (units.bit_rate, "100", "N030", "1gbit"), (units.bit_rate, "1bit", "N031", "1kbit"), (units.packet_rate, "10mbit", "N006", "shape"),
        (units.packet_rate, "1mpps", "N030", "1Mpps"), (units.packet_rate, "0pps", "N031", ""), (units.duration, "10M", "N030", "10m"),
        (units.duration, "-5s", "N033", ""), (units.duration, "1e9s", "N033", ""), (units.duration, "99999999999999d", "N031", ""),
        (units.duration, "٣s", "N033", ""), (units.size, "5GB", "N030", "5gb"), (units.size, "", "N033", ""),
    ],
)  # fmt: skip
def test_wrong(parse: Callable[[str], object], text: str, code: str, help: str) -> None:
    with pytest.raises(LiteralError) as caught:
        parse(text)
    assert caught.value.code == code
    assert help in caught.value.help


@given(st.integers(0, (1 << 32) - 1), st.integers(0, 32))
def test_a_v4_prefix_is_its_addresses(address: int, length: int) -> None:
    base = address >> (32 - length) << (32 - length)
    text = f"{types.show_address(V4_BASE + base)}/{length}"
    assert types.address(text) == (V4_BASE + base, V4_BASE + base + (1 << (32 - length)) - 1)


@given(st.integers(0, (1 << 128) - 1), st.integers(0, 128))
def test_a_v6_prefix_is_its_addresses(address: int, length: int) -> None:
    base = address >> (128 - length) << (128 - length)
    assert types.address(f"{types.show_address(base)}/{length}") == (base, base + (1 << (128 - length)) - 1)


@given(st.integers(0, (1 << 32) - 1), st.integers(1, 31))
def test_host_bits_are_refused_with_the_right_prefix(address: int, length: int) -> None:
    base = address >> (32 - length) << (32 - length)
    if address == base:
        address += 1
    with pytest.raises(LiteralError) as caught:
        types.address(f"{types.show_address(V4_BASE + address)}/{length}")
    assert caught.value.code == "N032"
    assert f"the prefix is {types.show_address(V4_BASE + base)}/{length};" in caught.value.help


@given(st.text(max_size=40))
def test_any_text_is_a_value_or_a_literal_error(text: str) -> None:
    for parse in (
        types.address,
        types.PORT.parse,
        types.mac,
        units.duration,
        units.bit_rate,
        units.size,
        types.TYPES["dscp"].parse,
    ):
        try:
            parse(text)
        except LiteralError as error:
            assert error.code in ("N030", "N031", "N032", "N033", "N036")


def test_queues_are_those_that_tc_lowers() -> None:
    assert {kind: set(options) for kind, options in QUEUES.items()} == {k: set(v) for k, v in tc_queues.KINDS.items()}
