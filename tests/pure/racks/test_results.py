"""What a run leaves: result lines, KTAP, names of tests; and skips that quote the probe's evidence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hwtests.rack import requires
from hwtests.rack.requires import WrongNeed, lacking
from hwtests.rack.results import Result, Results, named

PROFILE = {
    "driver": "igb", "rss": {"contexts": 0, "indirection": 128}, "xdp": {"native": True, "offload": False}, "qdiscs": ["fq", "pfifo"], "queues": 8,
    "facts": {"rss": {"evidence": "ETHTOOL_GRSSH"}, "xdp": {"evidence": "NETDEV_CMD_DEV_GET", "tried": "attached natively"}, "ring": {"most": {"rx": 4096}}},
}  # fmt: skip


@pytest.mark.parametrize("needs", [("xdp.native",), ("rss.indirection>=2", "queues==8"), ("fq in qdiscs",), ("facts.ring.most.rx>=4096",), ("rss.contexts<1",)])
def test_what_a_port_has(needs: tuple[str, ...]) -> None:
    assert lacking(PROFILE, needs) == ""


@pytest.mark.parametrize(
    ("need", "words"),
    [
        ("rss.contexts>=2", "needs rss.contexts>=2; the probe of igb says rss.contexts is 0 (ETHTOOL_GRSSH)"),
        ("cake in qdiscs", "qdiscs is ['fq', 'pfifo']"), ("xdp.offload", "False (attached natively; NETDEV_CMD_DEV_GET)"),
        ("ntuple.rules>=1", "is nothing (not probed)"), ("facts.pause.now.rx>=0", "is nothing"),
    ],
)  # fmt: skip
def test_what_it_lacks_is_told_with_evidence(need: str, words: str) -> None:
    assert words in lacking(PROFILE, ("xdp.native", need))


@pytest.mark.parametrize("need", ["rss.kontexts>=2", "rs.contexts", "rss.contexts=>2", "", "xdp native"])
def test_a_need_that_nothing_can_have_is_refused(need: str) -> None:
    """Else its test would be skipped on every NIC, for ever."""
    with pytest.raises(WrongNeed):
        requires.requires(need)


@pytest.mark.parametrize(
    ("node", "port", "expected"),
    [
        ("hwtests/test_filter.py::test_judges[wan-native]", "wan", ("filter.judges", "native")), ("hwtests/test_filter.py::test_x[wan]", "wan", ("filter.x", "")),
        ("hwtests/test_a.py::test_b", "", ("a.b", "")), ("hwtests/test_a.py::test_b[p-0-x-y]", "p-0", ("a.b", "x-y")),
    ],
)  # fmt: skip
def test_names(node: str, port: str, expected: tuple[str, str]) -> None:
    assert named(node, port) == expected


def test_lines_and_ktap(tmp_path: Path) -> None:
    writer = Results(tmp_path / "out", tmp_path / "ktap", "lab", ["wan", "lan"])
    writer.attempted("hwtests/test_a.py::test_b")
    assert (tmp_path / "out/results.attempted").read_text() == "# lab: wan lan\nhwtests/test_a.py::test_b\n", "on the disk before the test"
    for result in (
        Result("a.b", "v", "igb", figures={"bps": 5.0}), Result("a.c", nic="igb", result="fail", reason="two\nlines"),
        Result("a.d", result="skip", reason="needs\n# this"), Result("a.e", result="xfail", reason="quirk"),
    ):  # fmt: skip
        writer.add(result)
    assert json.loads((tmp_path / "out/results.jsonl").read_text().splitlines()[0])["figures"] == {"bps": 5.0}
    writer.close()
    assert (tmp_path / "ktap").read_text().splitlines() == [
        "KTAP version 1", "1..4", "ok 1 a.b igb v", "not ok 2 a.c igb", "# two", "# lines", "ok 3 a.d # SKIP needs # this", "ok 4 a.e # XFAIL quirk",
        "# Totals: pass:1 fail:1 xfail:1 xpass:0 skip:1 error:0",
    ]  # fmt: skip
