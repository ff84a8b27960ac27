"""Whatever the text is, the front end answers with a program or with a CompileError whose findings can be drawn."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from compiler import frames, ir_spec
from compiler.diagnostics import CompileError
from compiler.findings import MAX_SHOWN
from compiler.frontend import load, parse_expr, parse_packet
from compiler.parse import keywords
from compiler.source import Sources

ROOT = Path(__file__).parents[3]
GOOD = [path.read_text(encoding="utf-8") for path in sorted((Path(__file__).parent / "good").glob("*.netc"))]
BAD = [path.read_bytes() for path in sorted((Path(__file__).parent.parent / "bad_policies").glob("*.netc"))]
PIECES = sorted(keywords()) + [
    "{", "}", "(", ")", ",", ";", "\n", "->", "=", "<", ">=", '"x"', '"', "#", "22", "80-90", "192.0.2.0/24", "2001:db8::/32", "20kpps",
    "5ms", "1gbit", "1/100", "5%", "wan", "office", "in.ssh", "10.20", "src/24", "/48", "&", "\0", "é", "100..200", ":", "[::1]:5",
]  # fmt: skip
RELAXED = settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])


def written(folder: Path, data: bytes) -> Path:
    path = folder / "policy.netc"
    path.write_bytes(data)
    return path


def answer(folder: Path, data: bytes) -> None:
    """Loads `data` as a policy; anything but a legal program or a CompileError fails the test."""
    path = written(folder, data)
    sources = Sources()
    try:
        loaded = load(path, sources)
    except CompileError as error:
        assert any(d.is_error for d in error.diagnostics)
        assert len(error.diagnostics) <= MAX_SHOWN
        for diagnostic in error.diagnostics:
            drawn = diagnostic.draw(sources)
            assert all(c.isprintable() or c == "\n" for c in drawn), drawn
            assert all(len(line) < 2000 for line in drawn.split("\n"))
            assert diagnostic.as_json()["code"] == diagnostic.code
    else:
        ir_spec.check(loaded.program)


@RELAXED
@given(st.binary(max_size=400))
def test_noise(tmp_path: Path, data: bytes) -> None:
    answer(tmp_path, data)


@RELAXED
@given(st.lists(st.sampled_from(PIECES), max_size=60))
def test_words_in_any_order(tmp_path: Path, words: list[str]) -> None:
    answer(tmp_path, " ".join(words).encode())


@RELAXED
@given(st.sampled_from(GOOD), st.randoms(use_true_random=False))
def test_mutated_policies(tmp_path: Path, text: str, rng: random.Random) -> None:
    """Lines and words of good policies removed, doubled, swapped and replaced."""
    words = text.split(" ")
    for _ in range(rng.randint(1, 6)):
        at = rng.randrange(len(words))
        change = rng.choice(("remove", "double", "swap", "replace", "cut"))
        if change == "remove":
            del words[at]
        elif change == "double":
            words.insert(at, words[at])
        elif change == "swap":
            other = rng.randrange(len(words))
            words[at], words[other] = words[other], words[at]
        elif change == "replace":
            words[at] = rng.choice(PIECES)
        else:
            words[at] = words[at][: rng.randrange(len(words[at]) + 1)]
    answer(tmp_path, " ".join(words).encode())


@RELAXED
@given(st.sampled_from(BAD), st.integers(0, 2000), st.binary(max_size=3))
def test_bytes_changed_in_bad_policies(tmp_path: Path, data: bytes, at: int, new: bytes) -> None:
    answer(tmp_path, data[:at] + new + data[at + 1 :])


@RELAXED
@given(st.sampled_from(GOOD), st.integers(0, 4000))
def test_policies_cut_anywhere(tmp_path: Path, text: str, at: int) -> None:
    answer(tmp_path, text[:at].encode())


@pytest.mark.parametrize("behind", ["", "nic lan { device b }\nfilter wan in { default pass }\n"], ids=["nothing", "more"])
def test_a_list_that_is_cut_where_its_statement_wants_more(tmp_path: Path, behind: str) -> None:
    """A steer rule wants its target behind the `}`, which nobody can make up."""
    with pytest.raises(CompileError, match="N004"):
        load(written(tmp_path, b"nic wan { device a }\nsteer wan {\n  udp dport { 7\n" + behind.encode()), Sources())


@RELAXED
@given(st.lists(st.sampled_from(PIECES), max_size=12))
def test_conditions(words: list[str]) -> None:
    try:
        parse_expr(" ".join(words))
    except CompileError as error:
        assert error.diagnostics


@RELAXED
@given(
    st.lists(
        st.sampled_from([*PIECES, "tcp", "1.2.3.4:5", "->", "6.7.8.9:10", "syn", "vlan", "ttl", *frames.FLAGS]),
        max_size=9,
    )
)
def test_packets(words: list[str]) -> None:
    try:
        spec = parse_packet(" ".join(words))
    except CompileError as error:
        assert error.diagnostics
    else:
        try:
            assert len(frames.build(spec)) >= 14
        except frames.FrameError as error:
            assert str(error)


MIB = 1 << 20
LARGE = {
    "letters": b"x" * MIB,
    "words": b"filter wan in pass " * (MIB // 19),
    "lines": b"drop tcp dport 22\n" * (MIB // 18),
    "open parentheses": b"filter wan in { pass " + b"(" * MIB,
    "open braces": b"{" * MIB,
    "closed braces": b"}" * MIB,
    "blocks": b"shape a in rate 1gbit { " + b"class a { " * (MIB // 10),
    "nots": b"filter wan in { pass " + b"not " * (MIB // 4),
    "alternatives": b"nic wan { device a }\nfilter wan in { pass " + b"tcp or " * (MIB // 7) + b"udp; default drop }",
    "commas": b"set x = { " + b"1, " * (MIB // 3) + b"2 }",
    "zeros": bytes(MIB),
    "high bytes": b"\xff" * MIB,
    "quotes": b'"' * MIB,
    "random": random.Random(1).randbytes(MIB),
    "printable": bytes(random.Random(2).choices(range(32, 127), k=MIB)),
    "semicolons": b";" * MIB,
    "spaces": b" " * MIB,
    "one long name": b"nic " + b"n" * MIB + b" { device eth0 }",
    "one long number": b"set x = { " + b"9" * MIB + b" }",
    "one long address": b"set x = { " + b"1." * (MIB // 2) + b" }",
    "rules": b"nic wan { device a }\nfilter wan in {\n"
    + b"".join(b"drop src 10.%d.%d.%d tcp dport 22\n" % (n >> 16, n >> 8 & 255, n & 255) for n in range(5000))
    + b"default drop\n}\n",
}


@pytest.mark.parametrize("name", LARGE)
def test_a_mebibyte(tmp_path: Path, name: str) -> None:
    answer(tmp_path, LARGE[name])


def test_a_lark_in_the_working_directory_is_not_imported(tmp_path: Path) -> None:
    (tmp_path / "lark.py").write_text("raise SystemExit('hijacked')", encoding="utf-8")
    (tmp_path / "policy.netc").write_text("nic wan { device eth0 }\n", encoding="utf-8")
    command = [sys.executable, "-I", "-m", "compiler", "check", "policy.netc"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "", "")


def test_heavy_imports_wait_until_they_are_needed() -> None:
    code = "import sys, compiler.frontend; print([m for m in ('lark', 'bcc', 'pyroute2', 'numpy', 'scapy') if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "[]"


def test_long_and_hostile_words_are_shown_short_and_harmless() -> None:
    from compiler.findings import readable

    assert (
        readable("`filter` is a declaration: close the block before it with `}`, and then read on `again`").count("…")
        == 0
    )
    assert readable("`" + "x" * 100 + "` is no name, `y` is") == "`" + "x" * 60 + "…` is no name, `y` is"
    assert "\x1b" not in readable("`\x1b[31m` is red")
