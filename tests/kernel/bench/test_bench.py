"""`netc bench` on the kernel, with tiny batches: what is checked and counted is tested, no time is asserted."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from compiler import profile
from compiler.bench import material
from compiler.source import Sources
from compiler.tables.flows import Material
from runtime import cli
from runtime.bench import iptables_peer, nft_peer, xdp_filter_peer
from runtime.bench.rig import BY_HAND, FLOOR, NETC, BenchError, Rig
from runtime.lab import netns
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


def with_one_wrong(right: Material) -> Material:
    """The same with another outcome expected of the first flow."""
    first = right.scenarios[0]
    wrong = (first.expected[0] + 1) % len(right.outcomes)
    return replace(right, scenarios=(replace(first, expected=(wrong, *first.expected[1:])), *right.scenarios[1:]))


def answer(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert cli.main(["bench", "--json", *TINY, *words]) == 0
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_a_small_policy_beside_the_floor_c_by_hand_and_its_pieces(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    plot = tmp_path / "plot.svg"
    found = answer(capsys, str(SMALL), "--by-hand", str(BY_HAND_C), "--pieces", "--plot", str(plot))
    lines = {(m["scenario"], m["flows"], m["subject"]) for m in found["results"]}
    subjects = {NETC, FLOOR, BY_HAND, "piece: nothing", "piece: length", "piece: + parser", "piece: + 2 counters"}
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


def test_nft_judges_every_flow_alike_and_leaves_nothing_behind(capsys: pytest.CaptureFixture[str]) -> None:
    before = netns.names()
    found = answer(capsys, str(SMALL), "--nft")
    assert {"nft", "nft floor"} <= {m["subject"] for m in found["results"]} and "nft" not in found["skipped"]
    assert found["checked"]["judgements"] == 2 * 3 * 16
    assert [name for name in netns.names() if name not in before and name.startswith("ntbench")] == []


def test_a_peer_that_is_not_measured_is_named_with_the_reason(capsys: pytest.CaptureFixture[str]) -> None:
    found = answer(capsys, str(ROOT / "policies" / "dns.netc"), "--nft")
    assert found["skipped"]["nft"] == "limits and dynamic sets do not start alike there" and "xdp-filter" in found["skipped"]


def test_nft_that_counts_something_else_is_found(cpu: int) -> None:
    bad = with_one_wrong(made(nft=True))
    with Rig(bad, cpu) as rig, nft_peer.opened(rig) as peer, pytest.raises(BenchError, match="nft counts"):
        peer.check()


LISTS = """nic wan { device wan0 }
filter wan in {
  VERDICT tcp dport 80 as web
  VERDICT src 192.0.2.7 as host
  VERDICT dst 2001:db8::7 as host6
  default OTHER
}
"""
HAS_IPTABLES, HAS_XDP_FILTER = shutil.which("iptables-restore") is not None, shutil.which("xdp-filter") is not None


def lists(verdict: str, other: str, folder: Path) -> Path:
    (folder / "p.netc").write_text(LISTS.replace("VERDICT", verdict).replace("OTHER", other))
    return folder / "p.netc"


def test_every_peer_that_is_installed_stands_beside_netc_and_leaves_nothing_behind(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = netns.names()
    found = answer(capsys, str(lists("drop", "pass", tmp_path)), "--peers", "--flows", "16")
    measured = {m["subject"] for m in found["results"]}
    for peer, here, lines in (("iptables", HAS_IPTABLES, {"iptables", "iptables floor"}), ("xdp-filter", HAS_XDP_FILTER, {"xdp-filter"})):
        assert (lines <= measured, found["skipped"].get(peer)) == ((True, None) if here else (False, "not installed"))
    assert {"nft", "nft floor"} <= measured and ("iptables v" in found["machine"].get("iptables", "")) == HAS_IPTABLES
    assert found["checked"]["judgements"] == (2 + HAS_IPTABLES + HAS_XDP_FILTER) * 16 * len(found["scenarios"])
    assert [name for name in netns.names() if name not in before and name.startswith("ntbench")] == []


@pytest.mark.skipif(not HAS_IPTABLES, reason="iptables is not installed")
def test_iptables_judges_every_flow_of_both_families_alike(cpu: int) -> None:
    with Rig(made(peers=("iptables",)), cpu) as rig, iptables_peer.opened(rig) as peer:
        assert peer.check() == 3 * 64


@pytest.mark.skipif(not HAS_IPTABLES, reason="iptables is not installed")
def test_iptables_that_counts_something_else_is_found(cpu: int) -> None:
    bad = with_one_wrong(made(peers=("iptables",)))
    with Rig(bad, cpu) as rig, iptables_peer.opened(rig) as peer, pytest.raises(BenchError, match="iptables counts"):
        peer.check()


@pytest.mark.skipif(not HAS_XDP_FILTER, reason="xdp-filter is not installed")
def test_xdp_filter_may_also_list_what_passes(cpu: int, tmp_path: Path) -> None:
    right = material.make(lists("pass", "drop", tmp_path), profile.default(), Sources(), material.Wanted(16, peers=("xdp-filter",)))
    with Rig(right, cpu, one_buffer=True) as rig, xdp_filter_peer.beside(rig) as reason:
        assert (reason, rig.check()) == ("", 2 * 16 * len(right.scenarios))


@pytest.mark.skipif(not HAS_XDP_FILTER, reason="xdp-filter is not installed")
def test_xdp_filter_that_judges_otherwise_is_found(cpu: int, tmp_path: Path) -> None:
    right = material.make(lists("drop", "pass", tmp_path), profile.default(), Sources(), material.Wanted(16, peers=("xdp-filter",)))
    less = replace(right, peers=tuple(replace(item, lines=item.lines[1:], rules=item.rules[1:]) for item in right.peers))
    with Rig(less, cpu, one_buffer=True) as rig, xdp_filter_peer.beside(rig) as reason, pytest.raises(BenchError, match="xdp-filter returns"):
        assert reason == ""
        rig.check()


def test_a_peer_that_is_not_installed_or_cannot_say_the_policy_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    right = made(peers=("iptables", "xdp-filter"))
    monkeypatch.setattr(shutil, "which", lambda name: f"/usr/sbin/{name}")
    assert iptables_peer.reason_against(right) == ""
    assert xdp_filter_peer.reason_against(right) == "not comparable: it has one list, of what is not treated as all the rest"
    monkeypatch.setattr(shutil, "which", lambda name: None)
    assert iptables_peer.reason_against(right) == xdp_filter_peer.reason_against(right) == "not installed"


def test_a_list_of_prefixes(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "list").write_text("192.0.2.0/24\n198.51.100.7\n2001:db8::/32\n")
    found = answer(capsys, "--prefixes", str(tmp_path / "list"))
    assert found["rules"] == 1 and found["checked"]["judgements"] == 48


def test_a_wrong_expectation_ends_the_measurement(cpu: int) -> None:
    bad = with_one_wrong(made())
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


@pytest.mark.parametrize(("condition", "length"), [("ip4 tcp", 60), ("ip6 udp dport 53", 66), ("ip6 tcp dport 53", 74)])
def test_the_generator_brings_every_flow_whole(condition: str, length: int, cpu: int, tmp_path: Path) -> None:
    """The frame that the subject saw is the flow's, octet by octet, and flows come in order, again from the first after the last."""
    policy = tmp_path / "policy.netc"
    policy.write_text(f"nic wan {{ device wan0 }}\nfilter wan in {{\n  drop ip4 udp as none\n  pass {condition} as all\n  default drop\n}}\n")
    right = material.make(policy, profile.default(), Sources(), material.Wanted(64))
    number, worst = next((i, s) for i, s in enumerate(right.scenarios) if s.name == "worst")
    with Rig(right, cpu) as rig:
        for place in range(64):
            rig.point(FLOOR, number, 64, place)
            assert rig.data_after(1) == worst.frames[place * right.length : (place + 1) * right.length]
        rig.point(FLOOR, number, 64)
        assert rig.data_after(65) == worst.frames[: right.length], "after the last comes the first"
    assert {right.outcomes[i].counter for i in worst.expected} == {"wan.in.all"} and right.length == length
