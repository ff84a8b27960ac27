"""`netc test`: the same steps on the interpreter and on the kernel; what fails is shown with its line, and nothing stays behind."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime import cli
from runtime.lab import build
from tests.kernel.lab.policies import STATEFUL, TESTS, write


def _run(capsys: pytest.CaptureFixture[str], path: Path, *options: str) -> tuple[int, str, str]:
    status = cli.main(["test", str(path), *options])
    said = capsys.readouterr()
    return status, said.out, said.err


def test_tests_hold_on_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = [name for name in build.labs() if name.startswith("test-")]
    status, out, err = _run(capsys, write(tmp_path, STATEFUL + TESTS))
    assert status == 0, out + err
    assert "ok  a scanner is banned  (3 steps on interpreter, xdp)" in out
    assert "ok  given  (3 steps on interpreter, xdp)" in out
    assert "ok  an answer is let in, a stranger is not  (3 steps on interpreter, lab)" in out
    assert "4 of 4 tests hold" in out
    assert [name for name in build.labs() if name.startswith("test-") and name not in before and str(_pid()) in name] == []


def _pid() -> int:
    import os

    return os.getpid()


@pytest.mark.parametrize(("step", "expected", "got", "engine"), [
    ("packet wan in udp 203.0.113.9:5353 -> 192.0.2.1:53 is drop by dns-over", "drop by dns-over", "pass by dns", "xdp"),
    ("packet wan in udp 203.0.113.9:5353 -> 192.0.2.1:9 is pass", "pass", "drop", "lab"),
    ("send 100 over 1ms wan in udp 203.0.113.9:5353 -> 192.0.2.1:53 gives pass 50..60", "50..60 pass", "10 pass", "xdp"),
])  # fmt: skip
def test_a_wrong_expectation_fails_on_both_with_its_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], step: str, expected: str, got: str, engine: str
) -> None:
    path = write(tmp_path, f'{STATEFUL}\ntest "wrong" {{\n  {step}\n}}\n')
    line = path.read_text().splitlines().index(f"  {step}") + 1
    status, out, _ = _run(capsys, path, "--json")
    assert status == 1
    steps = json.loads(out)["steps"]
    assert [(s["engine"], s["held"], s["expected"], s["got"], s["line"]) for s in steps] == [
        ("interpreter", False, expected, got, line), (engine, False, expected, got, line),
    ]  # fmt: skip
    status, out, _ = _run(capsys, path)
    assert status == 1
    assert f"{path}:{line}: {step}" in out
    assert f"on {engine}: expected {expected}, got {got}" in out
    assert "0 of 1 tests hold" in out


def test_a_bad_policy_is_the_compilers_answer(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, err = _run(capsys, write(tmp_path, "filter wan in {\n"))
    assert status == 1
    assert out == ""
    assert "p.netc:1:" in err


def test_a_policy_without_tests_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = _run(capsys, write(tmp_path, STATEFUL))
    assert (status, out) == (0, "the policy has no tests\n")
