"""`netc bench` on the kernel, with tiny batches: what is checked and counted is tested, no time is asserted."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from compiler import profile
from compiler.bench import inputs, material
from compiler.source import Sources
from compiler.tables.flows import Material
from runtime import cli
from runtime.bench.rig import BY_HAND, FLOOR, NETC, BenchError, Rig
from runtime.replay import on_one_cpu

ROOT = Path(__file__).parents[3]
SMALL, BY_HAND_C = ROOT / "bench" / "small.netc", ROOT / "bench" / "small.c"
ACL = ROOT.parent / "shared" / "data" / "classbench" / "acl1_1k.gz"
TINY = ["--flows", "1,16", "--seconds", "0.0001", "--batch", "0.0002"]


@pytest.fixture
def cpu() -> Iterator[int]:
    with on_one_cpu() as number:
        yield number


def made(**wanted: Any) -> Material:
    return material.make(SMALL, profile.default(), Sources(), material.Wanted(64, **wanted))


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert cli.main(["bench", "--json", *words, *TINY]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_small_policy_beside_the_floor_c_by_hand_and_its_pieces(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    found = answer(capsys, str(SMALL), "--by-hand", str(BY_HAND_C), "--pieces", "--plot", str(plot))
    lines = {(m["scenario"], m["flows"], m["subject"]) for m in found["results"]}
    subjects = {NETC, FLOOR, BY_HAND, "piece: length", "piece: + parser", "piece: + 2 counters"}
    assert lines == {(s, n, who) for s in ("hits", "misses", "worst") for n in (1, 16) for who in subjects}
    assert found["checked"]["judgements"] == 2 * 3 * 16 and found["rules"] == 12
    assert all(m["total"]["median"] > 0 and m["batches"] >= 5 for m in found["results"])
    assert all((m["to_by_hand"] is None) == (m["subject"] in (FLOOR, BY_HAND)) for m in found["results"])
    assert {"cpu", "kernel", "jit"} <= set(found["machine"]) and found["programs"][NETC]["verified_instructions"] > 0
    assert plot.read_text().startswith("<svg")


def test_the_table_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", str(SMALL), *TINY]) == 0
    text = capsys.readouterr().out
    assert "12 rules; 48 flows checked first, by the interpreter." in text and "over the floor" in text and "kernel: Linux" in text


@pytest.mark.parametrize("policy", ["edge", "web", "dns"])
def test_policies_with_limits_sets_and_handing_on(policy: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Every flow as the interpreter says, in order; and the marks of handed-on packets do not pile up in front of the frame."""
    found = answer(capsys, str(ROOT / "policies" / f"{policy}.netc"))
    assert found["checked"]["judgements"] == 16 * len(found["scenarios"]) > 0


@pytest.mark.parametrize("rules", ["16", "100"])
def test_a_filter_set(rules: str, capsys: pytest.CaptureFixture[str]) -> None:
    if not ACL.exists():
        pytest.skip("the ClassBench sets are not here")
    found = answer(capsys, "--classbench", str(ACL), "--first", rules)
    assert found["rules"] == int(rules) and set(found["scenarios"]) == {"hits", "misses", "worst"}


def test_a_list_of_prefixes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "list").write_text("192.0.2.0/24\n198.51.100.7\n2001:db8::/32\n")
    found = answer(capsys, "--prefixes", str(tmp_path / "list"))
    assert found["rules"] == 1 and found["checked"]["judgements"] == 48


def test_a_wrong_expectation_ends_the_measurement(cpu: int) -> None:
    right = made()
    first = right.scenarios[0]
    wrong = (first.expected[0] + 1) % len(right.outcomes)
    bad = replace(right, scenarios=(replace(first, expected=(wrong, *first.expected[1:])), *right.scenarios[1:]))
    with Rig(bad, cpu) as rig, pytest.raises(BenchError, match="flow 0 of hits"):
        rig.check()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("counters, DNS, bytes, XDP_PASS", "counters, DNS, bytes, XDP_DROP", "the policy says pass"),
        ("counters, DNS, bytes, XDP_PASS", "counters, NTP, bytes, XDP_PASS", "by hand counts"),
    ],
)
def test_c_by_hand_that_means_something_else_is_found(old: str, new: str, said: str, tmp_path: Path, cpu: int) -> None:
    file = tmp_path / "wrong.c"
    file.write_text(BY_HAND_C.read_text().replace(old, new))
    with Rig(made(by_hand=file), cpu) as rig, pytest.raises(BenchError, match=said):
        rig.check()


def test_the_generator_brings_every_flow_whole(cpu: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The frame that the subject saw is the table's, octet by octet (IPv6 is longest), and flows come in order from the first on."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "list").write_text("192.0.2.0/24\n2001:db8::/32\n")
    right = material.make(inputs.policy(tmp_path / "list", "prefixes"), profile.default(), Sources(), material.Wanted(64))
    hits = right.scenarios[0]
    assert right.length > 60 and hits.name == "hits"
    with Rig(right, cpu) as rig:
        for place in range(64):
            rig.point(FLOOR, 0, 64, place)
            assert rig.data_after(1) == hits.frames[place * right.length : (place + 1) * right.length]
        rig.point(FLOOR, 0, 64)
        assert rig.data_after(65) == hits.frames[: right.length], "after the last comes the first"
