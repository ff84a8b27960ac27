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


STEERED = """
nic wan { device eth0 }
nic lan { device eth1 }
filter wan in { pass udp dport 9 as nine; pass udp as udp; pass established; default drop }
filter lan out { default pass }
steer wan { udp dport 9 to drop as discard }
steer lan { udp dport 9 to drop as discard }
test "dropped behind the filter, or passed" {
  packet wan in udp 203.0.113.9:5353 -> 192.0.2.1:9 is drop by steer.discard
  packet wan in udp 203.0.113.9:5353 -> 192.0.2.1:8 is pass by udp
  packet lan in udp 198.51.100.9:5353 -> 192.0.2.1:9 is drop by steer.discard
  packet lan in udp 198.51.100.9:5353 -> 192.0.2.1:8 is pass
  send 10 over 1ms wan in udp 203.0.113.9:5353 -> 192.0.2.1:9 gives drop 10
MORE}
"""


def test_what_steering_drops_is_named_by_its_rule(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By test runs; and, where a step needs the stack, with every packet really sent."""
    leaves = "  packet lan out udp 192.0.2.1:9 -> 198.51.100.9:5 is pass by default\n"
    for more, engine in (("", "xdp"), (leaves, "lab")):
        status, out, err = _run(capsys, write(tmp_path, STEERED.replace("MORE", more)))
        assert (status, f"on interpreter, {engine})" in out) == (0, True), out + err
    status, out, _ = _run(capsys, write(tmp_path, STEERED.replace("MORE", "  packet wan in udp 203.0.113.9:5353 -> 192.0.2.1:9 is pass by nine\n")))
    assert status == 1 and "expected pass by nine, got drop by" in out
