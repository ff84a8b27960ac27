"""An imported policy means what its filter set says: a linear reading of the file against the interpreter, on random and boundary headers."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from random import Random

import pytest

from compiler import frames, import_classbench, ir
from compiler.import_classbench import ImportFailed
from compiler.interp import Interpreter
from compiler.pipeline import check
from compiler.source import Sources
from runtime import cli

DATA = Path(__file__).parents[4] / "shared" / "data" / "classbench"
EVERY_FORM = """\
@10.0.0.0/8\t192.0.2.1/32\t0 : 65535\t22 : 22\t0x06/0xFF\t0x0200/0x1200\t
@10.0.0.0/8\t192.0.2.1/32\t0 : 65535\t22 : 22\t0x06/0xFF\t0x1100/0xff00\t
@10.0.0.0/8\t0.0.0.0/0\t0 : 65535\t0 : 1023\t0x06/0xFF\t0x0000/0x0200\t
@0.0.0.0/0\t192.0.2.0/24\t53 : 53\t1024 : 65535\t0x11/0xFF\t0x0000/0x0000\t
@0.0.0.0/0\t0.0.0.0/0\t0 : 65535\t0 : 65535\t0x01/0xFF\t0x0303/0xffff\t
@0.0.0.0/0\t0.0.0.0/0\t0 : 65535\t0 : 65535\t0x01/0xFF\t0x0800/0xff00\t
@0.0.0.0/0\t192.0.2.7/32\t0 : 65535\t0 : 65535\t0x01/0xFF\t0x0005/0x00ff\t
@10.1.0.0/16\t0.0.0.0/0\t0 : 65535\t0 : 65535\t0x01/0xFF\t0x0000/0x0000\t
@0.0.0.0/0\t10.9.0.0/16\t0 : 65535\t0 : 65535\t0x2f/0xFF\t0x0000/0x0000\t
@172.16.0.0/12\t0.0.0.0/0\t0 : 65535\t0 : 65535\t0x58/0xFF\t0x0000/0x0000\t
@172.16.0.0/12\t0.0.0.0/0\t100 : 200\t0 : 65535\t0x07/0xFF\t0x0000/0x0000\t
@172.16.0.0/12\t0.0.0.0/0\t7 : 7\t0 : 65535\t0x00/0x00\t0x0000/0x0000\t
@203.0.113.0/24\t0.0.0.0/0\t0 : 65535\t0 : 65535\t0x00/0x00\t0x0000/0x0000\t
@0.0.0.0/0\t198.51.100.0/24\t0 : 65535\t0 : 65535\t0x00/0x00
@0.0.0.0/0\t0.0.0.0/0\t0 : 65535\t9 : 9\t0x00/0x00\t0x0000/0x0000\t
"""


@dataclass(frozen=True)
class Header:
    src: int
    dst: int
    proto: int
    sport: int = 0
    dport: int = 0
    high: int = 0  # TCP flags or ICMP type
    low: int = 0  # ICMP code


def first_match(lines: list[str], header: Header) -> int:
    """The number of the first filter that the header fits, 0 for none: read again here, word by word, from the file."""
    for number, line in enumerate(lines, 1):
        words = line[1:].replace(":", " ").split()
        prefixes = [word.split("/") for word in words[:2]]
        if any(
            (value ^ int(IPv4Address(address))) >> (32 - int(bits))
            for value, (address, bits) in zip((header.src, header.dst), prefixes, strict=True)
        ):
            continue
        proto, mask = (int(word, 16) for word in words[6].split("/"))
        if (header.proto ^ proto) & mask:
            continue
        ports = [int(word) for word in words[2:6]]
        met = header.proto in (6, 17, 132) and ports[0] <= header.sport <= ports[1] and ports[2] <= header.dport <= ports[3]
        if ports != [0, 65535, 0, 65535] and not met:
            continue
        flags, flags_mask = (int(word, 16) for word in words[7].split("/")) if len(words) > 7 else (0, 0)
        if ((header.high << 8 | header.low) ^ flags) & flags_mask:
            continue
        return number
    return 0


def headers(lines: list[str], rng: Random, count: int) -> list[Header]:
    """Half near a filter's edges (inside, one beyond), half of them crossed with another filter's values, some wholly random."""
    return [_header(rng.choice(lines), rng.choice(lines), rng) for _ in range(count)]


def _header(line: str, other: str, rng: Random) -> Header:
    one, two = (text[1:].replace(":", " ").split() for text in (line, other))

    def words(index: int) -> str:
        return (two if rng.random() < 0.15 else one)[index]

    proto, mask = (int(word, 16) for word in words(6).split("/"))
    number = proto if mask and rng.random() < 0.9 else rng.choice((1, 6, 17, 47, 88, 132))
    wanted, wanted_mask = (int(word, 16) for word in words(7).split("/")) if len(one) > 7 and len(two) > 7 else (0, 0)
    bits = wanted | rng.getrandbits(16) & ~wanted_mask
    if rng.random() < 0.2:
        bits ^= 1 << rng.randrange(16)
    return Header(
        _address(words(0), rng), _address(words(1), rng), number,
        _port(rng.choice((one, one, one, two))[2:4], rng), _port(rng.choice((one, one, one, two))[4:6], rng), bits >> 8, bits & 0xFF,
    )  # fmt: skip


def _address(word: str, rng: Random) -> int:
    address, bits = word.split("/")
    size = 1 << 32 - int(bits)
    low = int(IPv4Address(address)) & ~(size - 1)
    edges = (low, low + size - 1, rng.randrange(low, low + size), rng.randrange(low, low + size))
    return rng.choice((*edges, *edges, low - 1, low + size)) & 0xFFFFFFFF


def _port(words: list[str], rng: Random) -> int:
    low, high = map(int, words)
    return min(65535, max(0, rng.choice((low, high, rng.randint(low, high), rng.randint(low, high), low - 1, high + 1))))


def frame(header: Header) -> bytes:
    src, dst = str(IPv4Address(header.src)), str(IPv4Address(header.dst))
    name = {1: "icmp4", 6: "tcp", 17: "udp", 132: "sctp"}.get(header.proto)
    if name is None:
        return frames.build(ir.PacketSpec("ip", src, dst, attributes=(("proto", header.proto), ("payload", 40))))
    if name == "icmp4":
        return frames.build(ir.PacketSpec(name, src, dst, attributes=(("type", header.high), ("code", header.low))))
    flags = (("flags", header.high),) if name == "tcp" else ()
    return frames.build(ir.PacketSpec(name, src, dst, header.sport, header.dport, flags))


def agree(text: str, policy: Path, rng: Random, count: int) -> int:
    """Judge headers by the file and by the policy; how many different filters were met."""
    lines = [line for line in text.splitlines() if line]
    interpreter = Interpreter(check(policy, Sources())[0])
    met = set()
    for header in headers(lines, rng, count):
        wanted = first_match(lines, header)
        judged = interpreter.judge(frame(header), "port", "in", 1)
        expected = ("pass", f"port.in.r{wanted}") if wanted else ("drop", "port.in.default")
        assert (judged.verdict, judged.rule) == expected, header
        met.add(wanted)
    return len(met)


def imported(path: Path, tmp_path: Path) -> Path:
    place = tmp_path / "imported.netc"
    place.write_text(import_classbench.policy(import_classbench.read(path), path.name))
    return place


def test_every_form_of_a_filter_means_the_same(tmp_path: Path) -> None:
    file = tmp_path / "forms"
    file.write_text(EVERY_FORM)
    met = agree(EVERY_FORM, imported(file, tmp_path), Random(3), 4000)
    assert met == len(EVERY_FORM.splitlines()), "all but the filter that no packet can meet, and none at all"


@pytest.mark.parametrize("name", ["acl2_1k", "fw1_1k", "fw4_1k", "ipc1_1k"])
def test_a_filter_set_and_its_policy_judge_alike(name: str, tmp_path: Path) -> None:
    file = DATA / f"{name}.gz"
    if not file.exists():
        pytest.skip("the ClassBench sets are not here")
    assert agree(gzip.decompress(file.read_bytes()).decode(), imported(file, tmp_path), Random(name), 300) > 30


def test_the_text_reads_well_and_says_where_it_came_from(tmp_path: Path) -> None:
    file = tmp_path / "forms"
    file.write_text(EVERY_FORM)
    lines = imported(file, tmp_path).read_text().splitlines()
    assert "filter set forms: 15 filters" in lines[0] and "1 of them" in lines[2]
    words = [" ".join(line.split()) for line in lines]
    for expected in (
        "pass tcp src 10.0.0.0/8 dst 192.0.2.1 dport 22 flags syn not flags ack as r1",
        "pass udp dst 192.0.2.0/24 sport 53 dport 1024-65535 as r4",
        "pass icmp4 type 3 code 3 as r5",
        "pass proto gre dst 10.9.0.0/16 as r9",
        "# pass proto 7 src 172.16.0.0/12 sport 100-200 as r11",
        "pass src 203.0.113.0/24 as r13",
        "pass ip4 dport 9 as r15",
        "default drop",
    ):
        assert expected in words


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("@10.0.0.0/33 0.0.0.0/0 0 : 1 0 : 1 0x06/0xFF", "10.0.0.0/33 is not an IPv4 prefix"),
        ("@10.0.0.256/8 0.0.0.0/0 0 : 1 0 : 1 0x06/0xFF", "10.0.0.256/8 is not an IPv4 prefix"),
        ("@10.0.0.0/8 0.0.0.0/0 9 : 1 0 : 1 0x06/0xFF", "9 : 1 is not a range of ports"),
        ("@10.0.0.0/8 0.0.0.0/0 0 : 1 0 : 65536 0x06/0xFF", "0 : 65536 is not a range of ports"),
        ("@10.0.0.0/8 0.0.0.0/0 0 : 1 0 : 1 0x06/0x0F", "neither one protocol nor any"),
        ("@10.0.0.0/8 0.0.0.0/0 0 : 1 0 : 1 0x11/0xFF 0x0200/0x0200", "for TCP and ICMP only"),
        ("@10.0.0.0/8 0.0.0.0/0 0 : 1 0 : 1 0x06/0xFF 0x0001/0x0001", "not TCP's flags"),
        ("@10.0.0.0/8 0.0.0.0/0 0 : 65535 0 : 65535 0x01/0xFF 0x0100/0x0100", "a part of ICMP's type"),
        ("10.0.0.0/8 anything", "not a filter of ClassBench"),
    ],
)
def test_a_line_that_cannot_be_said_is_refused_by_its_number(line: str, said: str, tmp_path: Path) -> None:
    file = tmp_path / "set"
    file.write_text(EVERY_FORM.splitlines()[0] + "\n" + line + "\n")
    with pytest.raises(ImportFailed, match=r"set:2: ") as refused:
        import_classbench.read(file)
    assert said in str(refused.value)


def test_an_empty_a_cut_and_a_missing_file_are_errors(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").write_text("\n")
    (tmp_path / "cut.gz").write_bytes(gzip.compress(EVERY_FORM.encode())[:60])
    for name, said in (("empty", "no filters in it"), ("cut.gz", "cut or no gzip file"), ("none", "No such file")):
        assert cli.main(["import", "classbench", str(tmp_path / name)]) == 1
        assert said in capsys.readouterr().err


def test_the_command_replaces_protocols_and_writes_a_policy_that_checks(tmp_path: Path) -> None:
    file, place = tmp_path / "set.gz", tmp_path / "made.netc"
    file.write_bytes(gzip.compress(b"@10.0.0.0/8\t0.0.0.0/0\t5 : 5\t0 : 65535\t0x07/0xFF\t0x0000/0x0000\n"))
    words = ["import", "classbench", str(file), "-o", str(place), "--nic", "wan", "--device", "ens1"]
    assert cli.main([*words, "--protocol", "7=tcp"]) == 0
    assert "pass tcp src 10.0.0.0/8 sport 5" in place.read_text() and "nic wan { device ens1 }" in place.read_text()
    assert cli.main(["check", str(place)]) == 0
    before = place.read_bytes()
    assert cli.main([*words, "--protocol", "7=carrots"]) == 1
    assert cli.main([*words, "--nic", "a b"]) == 1
    assert place.read_bytes() == before, "a refusal writes nothing"
