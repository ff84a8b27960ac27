"""The same capture by both engines: the same bytes on stdout; and what cannot be replayed is told."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from compiler.tables import capture
from runtime import cli
from tests.kernel.lab.policies import STATEFUL, write

scapy = pytest.importorskip("scapy.all")
_MS = 1_000_000
_START = 1_700_000_000 * 10**9 + 123_456_789


def _packets() -> list[bytes]:
    """Every rule, what hangs on time, and what is odd: short, cut, tagged, not IP."""
    e, ip = scapy.Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02"), scapy.IP
    dns = e / ip(src="203.0.113.5", dst="192.0.2.1") / scapy.UDP(sport=5353, dport=53) / b"query"
    scan = e / ip(src="203.0.113.9", dst="192.0.2.1") / scapy.TCP(sport=4, dport=22, flags="S")
    banned = e / ip(src="203.0.113.9", dst="192.0.2.1") / scapy.UDP(sport=4, dport=53)
    web = e / scapy.Dot1Q(vlan=10) / ip(src="203.0.113.8", dst="192.0.2.1") / scapy.TCP(sport=4, dport=80, flags="A")
    six = e / scapy.IPv6(src="2001:db8::9", dst="2001:db8::1") / scapy.IPv6ExtHdrDestOpt() / scapy.UDP(sport=4, dport=53) / b"x"
    part = e / ip(src="203.0.113.8", dst="192.0.2.1", frag=100, proto=17) / b"rest"
    arp = e / scapy.ARP(pdst="192.0.2.1")
    other = e / ip(src="203.0.113.8", dst="192.0.2.1") / scapy.TCP(sport=4, dport=443, flags="A")
    big = e / ip(src="203.0.113.8", dst="192.0.2.1") / scapy.UDP(sport=4, dport=53) / (b"x" * 1472)
    unknown = scapy.Ether(src="02:00:00:00:00:01", dst="02:00:00:00:00:02", type=0x88B5) / (b"x" * 46)
    whole = [bytes(p) for p in (scan, banned, web, six, part, arp, other, big, unknown)]
    cut = [bytes(six)[:n] for n in range(len(bytes(six)))]
    return [*whole, *[bytes(dns)] * 40, *cut]


def _capture(directory: Path) -> Path:
    path = directory / "c.pcap"
    capture.write(path, [(_START + n * 7 * _MS // 10, frame) for n, frame in enumerate(_packets())])
    return path


def _run(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    assert cli.main(["replay", *arguments]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize("form", [[], ["--json"], ["--summary"], ["--summary", "--json"]])
def test_both_engines_say_the_same(tmp_path: Path, capsys: pytest.CaptureFixture[str], form: list[str]) -> None:
    policy, file = str(write(tmp_path, STATEFUL)), str(_capture(tmp_path))
    by_interpreter = _run(capsys, policy, file, "--engine", "interp", *form)
    assert by_interpreter == _run(capsys, policy, file, "--engine", "xdp", *form)
    assert by_interpreter


def test_every_fate_is_met(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Guards the test above against a capture in which nothing happens."""
    out = _run(capsys, str(write(tmp_path, STATEFUL)), str(_capture(tmp_path)), "--engine", "xdp", "--json")
    judged = [json.loads(line) for line in out.splitlines()]
    assert [line["n"] for line in judged] == list(range(1, len(_packets()) + 1))
    met = {(line["verdict"], line["rule"]) for line in judged}
    assert met >= {
        ("drop", "wan.in.ssh-scan"), ("drop", "wan.in.banned"), ("pass", "wan.in.web"), ("pass", "wan.in.dns"), ("drop", "wan.in.dns-over"),
        ("drop", "wan.in.junk"), ("pass", "wan.in.control"), ("handed-on", "wan.in.handed-on"), ("drop", "wan.in.default"), ("refused", ""),
    }  # fmt: skip


def test_time_is_the_captures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """1000 a second, burst 10: 30 at once leave 10, 30 a millisecond apart all pass."""
    frame = _packets()[9]
    policy = str(write(tmp_path, STATEFUL))
    for gap, passing in ((0, 10), (_MS, 30)):
        path = tmp_path / "t.pcap"
        capture.write(path, [(_START + n * gap, frame) for n in range(30)])
        out = _run(capsys, policy, str(path), "--engine", "xdp")
        assert out.count("wan.in.dns ") == passing


def test_pcapng_is_the_same_capture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy, frames = str(write(tmp_path, STATEFUL)), _packets()[:40]
    with scapy.PcapNgWriter(str(tmp_path / "c.pcapng")) as writer:
        for n, frame in enumerate(frames):
            packet = scapy.Ether(frame)
            packet.time = 1_700_000_000 + n
            writer.write(packet)
    capture.write(tmp_path / "c.pcap", [((1_700_000_000 + n) * 10**9, frame) for n, frame in enumerate(frames)])
    outputs = {_run(capsys, policy, str(tmp_path / name), "--engine", "xdp") for name in ("c.pcap", "c.pcapng")}
    assert len(outputs) == 1


def test_a_bundle_replays_by_xdp_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy, file = write(tmp_path, STATEFUL), str(_capture(tmp_path))
    bundle = tmp_path / "p.bundle"
    assert cli.main(["compile", str(policy), "-o", str(bundle)]) == 0
    capsys.readouterr()
    assert _run(capsys, str(bundle), file, "--engine", "xdp") == _run(capsys, str(policy), file, "--engine", "xdp")
    assert cli.main(["replay", str(bundle), file, "--engine", "interp"]) == 1
    assert "the interpreter reads policies" in capsys.readouterr().err


@pytest.mark.parametrize("engine", ["interp", "xdp"])
@pytest.mark.parametrize(("nic", "content", "words"), [
    ("dmz", None, "the policy has no nic dmz; it has wan"),
    ("wan", b"no capture at all", "not a whole pcap or pcapng file"),
    ("wan", b"", "not a whole pcap or pcapng file"),
])  # fmt: skip
def test_what_cannot_be_replayed_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], engine: str, nic: str, content: bytes | None, words: str
) -> None:
    path = _capture(tmp_path)
    if content is not None:
        path.write_bytes(content)
    assert cli.main(["replay", str(write(tmp_path, STATEFUL)), str(path), "--nic", nic, "--engine", engine]) == 1
    said = capsys.readouterr()
    assert words in said.err
    assert said.out == ""


def test_a_policy_without_an_xdp_filter_has_nothing_to_replay(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    policy = write(tmp_path, "nic wan { device wan0; xdp none }\nfilter wan in { default pass }\n")
    assert cli.main(["replay", str(policy), str(_capture(tmp_path)), "--engine", "xdp"]) == 1
    assert "there is nothing to replay" in capsys.readouterr().err
