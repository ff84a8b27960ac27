"""A limit in nft is the one of the policy, to a thousandth, whatever its rate; below that it is refused with the mend."""

from __future__ import annotations

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compiler import ir, pipeline, profile
from compiler.diagnostics import CompileError
from compiler.source import Sources
from compiler.targets.nft_rate import spell

SECONDS = {"second": 1, "minute": 60, "hour": 3600, "day": 86400, "week": 604800}


@pytest.mark.parametrize(
    ("rate", "said"),
    [("1", (1, "second")), ("333", (333, "second")), ("20000", (20000, "second")), ("0.5", (30, "minute")), ("2.5", (150, "minute")),
     ("1.5", (90, "minute")), ("0.25", (15, "minute")), ("0.001", (605, "week")), ("0.0125", (45, "hour"))],
)  # fmt: skip
def test_spelling(rate: str, said: tuple[int, str]) -> None:
    assert spell(round(ir.TICKS_PER_NS * 10**9 / Fraction(rate))) == said


@given(st.integers(min_value=1000 * ir.TICKS_PER_NS, max_value=1000 * 10**9 * ir.TICKS_PER_NS))
def test_every_rate_from_a_thousandth_to_a_million_a_second(interval: int) -> None:
    found = spell(interval)
    assert found is not None
    rate, unit = found
    wanted = interval / ir.TICKS_PER_NS
    assert abs(SECONDS[unit] * 10**9 // rate - wanted) <= max(1, wanted / 1000)


def policy(rate: str, folder: Path) -> Path:
    path = folder / "p.netc"
    path.write_text(f"nic wan {{ device eth0; xdp none }}\nfilter wan in {{\n  pass icmp echo-request limit {rate} as ping\n  default drop\n}}\n")
    return path


def test_in_a_policy(tmp_path: Path) -> None:
    made = pipeline.compile_policy(policy("0.5pps", tmp_path), profile.chosen(None), Sources()).bundle
    (limit,) = [json.loads(bytes(item))["add"]["limit"] for table in made.nft for item in table.objects if b'"limit":{' in bytes(item)]
    assert (limit["rate"], limit["per"], limit["burst"]) == (30, "minute", 5)


def test_what_nft_cannot_say(tmp_path: Path) -> None:
    with pytest.raises(CompileError) as refused:
        pipeline.compile_policy(policy("0.00001pps", tmp_path), profile.chosen(None), Sources())
    (found,) = refused.value.diagnostics
    assert found.code == "N802" and found.span.line == 3 and "0.001pps" in found.help and "nft cannot say" in found.message
