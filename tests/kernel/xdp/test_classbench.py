"""The correctness twin of the benchmark: thousands of rules, IPv6 rules and large sets in XDP, judged line by line beside it."""

from __future__ import annotations

import gzip
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_network
from itertools import islice
from pathlib import Path
from random import Random

import pytest

from compiler import import_classbench, ir, pipeline, profile
from compiler.classify import tables
from compiler.classify.shape import Shape, Tables
from compiler.source import Sources
from compiler.targets import c_program
from tests.kernel.xdp import classbench, rig, small

PACKETS = 2000  # of each filter set
PREFIXES = Path(__file__).parents[4] / "shared" / "data" / "prefixes" / "bgp-table.txt.gz"
LARGE = 200_000  # prefixes of the large set
Rule6 = tuple[tuple[int, int], tuple[int, int], int]


@contextmanager
def compiled(text: str, folder: Path) -> Iterator[rig.Rig]:
    """The policy's program for nic `port`, by the way that `netc compile` goes."""
    path = folder / "policy.netc"
    path.write_text(text)
    made = pipeline.compile_policy(path, profile.default(), Sources()).bundle
    assert any(item.name.endswith(".arena") for item in made.maps), "nothing is looked up in tables"
    with rig.pinned():
        loaded = rig.Rig(made, "port")
        try:
            yield loaded
        finally:
            loaded.close()


def wrong(loaded: rig.Rig, frames: list[bytes], names: list[str], drops: bool) -> list[str]:
    """Packets whose rule or verdict is another than `names` says ("": none matches). drops: rules drop and the default passes."""
    found = []
    for frame, name in zip(frames, names, strict=True):
        seen = loaded.judge(frame, 1)
        action = rig.XDP_DROP if bool(name) == drops else rig.XDP_PASS
        if (seen.action, seen.rule) != (action, f"port.in.{name or 'default'}"):
            found.append(f"rule {name or 'none'}, XDP {seen.action} by {seen.rule}: {frame.hex()}")
    return found


def _wide(line: str) -> bool:
    return sum(int(word.split("/")[1]) for word in line.split()[:2]) < 16


def filter_set(path: Path, folder: Path, packets: int = PACKETS) -> list[str]:
    """The sets of 10,000 lines are whole; those of 1,000 go without wide lines, so that there are packets which meet none."""
    replaced = classbench.STANDS_FOR.get(path.name.split("_")[0], {})
    with gzip.open(path, "rt") as source:
        chosen = [line for line in source if "_10k" in path.name or not _wide(line)]
    (copy := folder / path.stem).write_text("".join(chosen))
    lines = classbench.read(copy, replaced)
    headers = classbench.drawn(Random(path.name), lines, packets)
    numbers = classbench.first_lines(lines, headers)
    assert len(set(numbers)) > 300 and ("_10k" in path.name or packets // 50 < numbers.count(0) < packets * 3 // 4), "this proves nothing"
    names = [f"r{number}" if number else "" for number in numbers]
    with compiled(import_classbench.policy(import_classbench.read(copy, replaced), path.name), folder) as loaded:
        return wrong(loaded, [header.frame() for header in headers], names, drops=False)


@pytest.mark.skipif(not classbench.SETS, reason="no filter sets in shared/data/classbench")
@pytest.mark.parametrize("path", classbench.SETS, ids=lambda path: path.name.removesuffix(".gz"))
def test_xdp_finds_the_first_line_of_a_filter_set(path: Path, tmp_path: Path) -> None:
    assert not filter_set(path, tmp_path)


@pytest.mark.skipif(not classbench.SETS, reason="no filter sets in shared/data/classbench")
@pytest.mark.parametrize("name", ["acl1_1k.gz", "fw1_1k.gz"])
def test_xdp_finds_the_first_line_with_classes_of_32_bits(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many classes have them as otherwise only a hundred thousand rules have."""
    shapes: list[Shape] = []

    def widened(*arguments: object, real: Callable[..., Tables] = tables.build) -> Tables:
        made = real(*arguments, 8)
        shapes.append(made.shape)
        return made

    monkeypatch.setattr(tables, "build", widened)
    assert not filter_set(classbench.DATA / name, tmp_path)
    assert shapes[0].wide and max(shapes[0].buckets)


def _rule6(rng: Random) -> Rule6:
    """Nested prefixes of any length under a few sites, and a port."""
    spans = []
    for _ in range(2):
        bits = rng.choice((0, rng.randint(1, 128), 128)) if rng.random() < 0.15 else rng.choice((rng.randint(37, 128), 48, 64, 128))
        host = (0x20010DB8 << 96) + (rng.getrandbits(4) << 90) + rng.getrandbits(rng.choice((2, 30, 64, 90)))
        first = host >> (128 - bits) << (128 - bits)
        spans.append((first, first + (1 << 128 - bits) - 1))
    return spans[0], spans[1], rng.choice((0, 22, 53, 443, rng.randrange(1, 65536)))


def _text6(number: int, rule: Rule6) -> str:
    words = [f"{word} {IPv6Address(first)}/{128 - (last - first).bit_length()}" for word, (first, last) in zip(("src", "dst"), rule[:2], strict=True)]
    return f"  drop udp {' '.join(words)}{f' dport {rule[2]}' if rule[2] else ''} as r{number}"


def _near6(rng: Random, span: tuple[int, int]) -> int:
    first, last = span
    outside = (first - 1, last + 1) if rng.random() < 0.4 else (first, last)
    return min(max(rng.choice((first, last, *outside, rng.randint(first, last))), 0), (1 << 128) - 1)


def ipv6_rules(folder: Path) -> list[str]:
    rng = Random(6)
    rules = [_rule6(rng) for _ in range(2000)]
    wide = 1 << 176  # addresses × addresses: rules for more pairs name a port, or they would leave nothing to the others
    rules = [(a, b, port or (443 if (a[1] - a[0] + 1) * (b[1] - b[0] + 1) > wide else 0)) for a, b, port in rules]
    text = "\n".join(["nic port { device eth0 }", "filter port in {", *(_text6(n, rule) for n, rule in enumerate(rules)), "  default pass", "}", ""])
    frames, names = [], []
    for _ in range(3000):
        rule = rng.choice(rules)
        src, dst, port = _near6(rng, rule[0]), _near6(rng, rule[1]), rng.choice((rule[2], rule[2], rule[2] + 1 & 0xFFFF))
        met = (n for n, (a, b, p) in enumerate(rules) if a[0] <= src <= a[1] and b[0] <= dst <= b[1] and p in (0, port))
        names.append(next((f"r{n}" for n in met), ""))
        frames.append(small.udp(str(IPv6Address(src)), str(IPv6Address(dst)), port))
    assert 100 < names.count("") < 2000
    with compiled(text, folder) as loaded:
        return wrong(loaded, frames, names, drops=True)


@pytest.mark.parametrize("narrow", [tables.NARROW, 8], ids=["16 bits", "32 bits"])
def test_xdp_finds_the_first_of_two_thousand_ipv6_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, narrow: int) -> None:
    monkeypatch.setattr(tables, "build", lambda *arguments, real=tables.build: real(*arguments, narrow))
    assert not ipv6_rules(tmp_path)


def _ranges(prefixes: list[str]) -> list[tuple[int, int]]:
    """Merged, as first and last ordinals: a set's members, told from its text alone."""
    merged: list[tuple[int, int]] = []
    for first, last in sorted(map(small.network, prefixes)):
        if merged and first <= merged[-1][1] + 1:
            merged[-1] = merged[-1][0], max(last, merged[-1][1])
        else:
            merged.append((first, last))
    return merged


def _inside(ranges: list[tuple[int, int]], value: int) -> bool:
    at = bisect_right(ranges, (value, 1 << 130))
    return at > 0 and value <= ranges[at - 1][1]


@pytest.mark.skipif(not PREFIXES.exists(), reason="no table of prefixes in shared/data/prefixes")
@pytest.mark.parametrize("choose", [("src",), ("src", "dst", "src")], ids=["one side", "both sides"])
def test_xdp_finds_the_first_of_65_sets_one_of_which_is_large(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, choose: tuple[str, ...]) -> None:
    """The small sets take their members, longer or shorter by some bits, from the large one's, so that all of them overlap."""
    shapes: list[Shape] = []
    monkeypatch.setattr(tables, "build", lambda *arguments, real=tables.build: _noted(real(*arguments, 300), shapes))
    rng = Random(65)
    with gzip.open(PREFIXES, "rt") as file:
        known = [line.strip() for line in islice(file, 0, None, 5)][:LARGE]
    chosen = [[_resized(rng, rng.choice(known)) for _ in range(rng.choice((1, 30, 300)))] for _ in range(64)]
    sets = [*chosen[:40], known, *chosen[40:]]
    lines = ["nic port { device eth0 }"]
    for number, members in enumerate(sets):
        (tmp_path / f"{number}.txt").write_text("\n".join(members))
        lines.append(f'set set{number} = file "{number}.txt"')
    sides = [choose[number % len(choose)] for number in range(len(sets))]
    lines += ["filter port in {", *(f"  drop {side} in set{n} as s{n}" for n, side in enumerate(sides)), "  default pass", "}", ""]
    ranges = [_ranges(members) for members in sets]
    addresses = {family: [value for value in _near_ends(rng, ranges) if (value >= ir.V4_BASE) == (family == 4)] for family in (4, 6)}
    frames, names = [], []
    for _ in range(4000):
        pool = addresses[rng.choice((4, 4, 6))]
        at = {"src": rng.choice(pool), "dst": rng.choice(pool)}
        names.append(next((f"s{n}" for n, side in enumerate(sides) if _inside(ranges[n], at[side])), ""))
        frames.append(small.udp(*(_written(at[side]) for side in ("src", "dst"))))
    assert 200 < names.count("") < 3500 and len(set(names)) > 50 and names.count("s40") > 200
    with compiled("\n".join(lines), tmp_path) as loaded:
        assert not wrong(loaded, frames, names, drops=True)
    assert shapes[0].words == (0 if len(choose) == 1 else 2), "other tables than meant"


def _noted(made: Tables, shapes: list[Shape]) -> Tables:
    shapes.append(made.shape)
    return made


def _resized(rng: Random, prefix: str) -> str:
    network = ip_network(prefix)
    bits = min(max(network.prefixlen + rng.choice((-3, -1, 0, 2, 6)), 8), network.max_prefixlen)
    return str(ip_network((network.network_address, bits), strict=False))


def _near_ends(rng: Random, ranges: list[list[tuple[int, int]]]) -> list[int]:
    found = []
    for _ in range(6000):
        first, last = rng.choice(rng.choice(ranges) if rng.random() < 0.5 else ranges[40])
        found.append(min(max(rng.choice((first, last, first - 1, last + 1, rng.randint(first, last))), 0), ir.V4_LAST))
    return found


def _written(ordinal: int) -> str:
    return str(IPv6Address(ordinal)) if ordinal < ir.V4_BASE else ".".join(map(str, (ordinal - ir.V4_BASE).to_bytes(4, "big")))


_MUTANTS = {  # the text of tables.h as it is, as it must not be
    "a list's last entry is not read": ("if (netc_i >= netc_n)", "if (netc_i + 1 >= netc_n)"),
    "the last interval of the other side": ("> (u32)netc_tail)", ">= (u32)netc_tail)"),
    "a bit of the combination's number": ("(netc_tail >> 32 & 7)", "(netc_tail >> 32 & 3)"),
    "the search takes the interval in front": ("from += (half + 1) & -over;", "from += half & -over;"),
    "a bit of the address": ("address & 0xffff;", "address & 0xfffe;"),
    "the first that was found stays": ("if ((u32)netc_head > (found))", "if ((u32)netc_head < (found))"),
}


@pytest.mark.skipif(not classbench.SETS, reason="no filter sets in shared/data/classbench")
@pytest.mark.parametrize("name", _MUTANTS)
def test_a_mutant_of_the_look_up_is_caught(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right, mistaken = _MUTANTS[name]
    real = c_program.read_part
    assert right in real("tables.h")
    monkeypatch.setattr("compiler.targets.xdp_tables.read_part", lambda part: real(part).replace(right, mistaken))
    assert filter_set(classbench.DATA / "acl1_1k.gz", tmp_path, 1500)


_MUTANTS6 = {
    "the lower half is not asked": ("if (lows) ", "if (0) "),
    "a table is entered by other bits": ("(u32)(rest >> 56)", "(u32)(rest >> 55 & 0xff)"),
    "the interval behind a run's": ("    from -= 1;\n", ""),
}


@pytest.mark.parametrize("name", _MUTANTS6)
def test_a_mutant_of_the_ipv6_search_is_caught(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right, mistaken = _MUTANTS6[name]
    real = c_program.read_part
    assert right in real("tables.h")
    monkeypatch.setattr("compiler.targets.xdp_tables.read_part", lambda part: real(part).replace(right, mistaken))
    assert ipv6_rules(tmp_path)
