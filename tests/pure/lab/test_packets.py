"""The format of .packets files: what is read, and what each bad line is told."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.lab import packets


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "x.packets"
    path.write_text(text)
    return path


def test_lines_keep_their_numbers_and_words(tmp_path: Path) -> None:
    text = "# traffic\n\nwan 9000 udp 203.0.113.21:5353 -> 192.0.2.1:53 => wan.in.dns + wan.in.dns-over  # two\nout 1 icmp 192.0.2.1 -> 192.0.2.2=>a\n"
    assert packets.read(_file(tmp_path, text)) == [
        packets.Line("wan", 9000, "udp 203.0.113.21:5353 -> 192.0.2.1:53", ("wan.in.dns", "wan.in.dns-over"), 3),
        packets.Line("out", 1, "icmp 192.0.2.1 -> 192.0.2.2", ("a",), 4),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("wan udp a -> b => c", "expected NIC COUNT PACKET => COUNTER"),
        ("wan 5 udp a -> b", "expected NIC COUNT PACKET => COUNTER"),
        ("wan 0 udp a -> b => c", "1 to 100,000,000 packets a line, not 0"),
        ("wan 999999999 udp a -> b => c", "1 to 100,000,000 packets a line"),
        ("wan 5 udp a -> b => c +", "is no name of a counter"),
        ("wan 5 udp a -> b => c; rm -rf /", "is no name of a counter"),
        ("# nothing", "no packets in it"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(packets.PacketsError, match=r"x\.packets(:1)?:") as refusal:
        packets.read(_file(tmp_path, text + "\n"))
    assert words in str(refusal.value)


def test_every_policy_has_packets_that_parse() -> None:
    policies = sorted((Path(__file__).parents[3] / "policies").glob("*.netc"))
    assert policies
    for policy in policies:
        assert packets.read(policy.with_suffix(".packets"))
