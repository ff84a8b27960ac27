"""The kernel tests with netc reduced to its three capabilities: a sample in every run, all of them in the long one."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernel import reduced

ROOT = Path(__file__).parents[2]
SAMPLE = (
    "tests/kernel/apply/test_apply.py", "tests/kernel/apply/test_owner.py::test_taking_over_and_what_the_first_one_sees",
    "tests/kernel/apply/test_samples.py", "tests/kernel/boot/test_boot.py::test_the_confirmed_policy_comes_back",
    "tests/kernel/policies/test_life.py::test_what_is_sent_is_what_each_rule_counts[edge]",
    "tests/kernel/apply/test_trial.py::test_a_confirmed_trial_stays", "tests/kernel/apply/test_trial.py::test_bpf_programs_go_back_when_every_process_is_dead",
)  # fmt: skip
pytestmark = pytest.mark.skipif(reduced.ON, reason="netc is reduced already")


def run(*paths: str) -> str:
    """Give what pytest said; every test passed."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", *paths]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, "NETC_TEST_CAPS": "1"}, check=False)
    assert done.returncode == 0 and re.search(r"\d+ passed", done.stdout), done.stdout[-6000:] + done.stderr[-2000:]
    return done.stdout


def test_a_sample() -> None:
    assert "failed" not in run(*SAMPLE)


@pytest.mark.long
def test_all_of_them() -> None:
    print(run("tests/kernel"))


@pytest.mark.parametrize("words", [["apply", "p.netc"], ["plan", "p.netc"]])
def test_a_policy_file_is_refused_with_the_mend(tmp_path: Path, words: list[str]) -> None:
    """netc never compiles with its own privileges: it says what is missing and what to do."""
    (tmp_path / "p.netc").write_text("nic wan { device wan0; xdp native }\nfilter wan in { default pass }\n")
    bounding = "-all,+bpf,+net_admin,+perfmon"
    command = ["setpriv", "--bounding-set", bounding, "--inh-caps=-all", "--no-new-privs", sys.executable, "-m", "runtime.cli", *words]
    where = ["--state-dir", str(tmp_path / "state"), "--bpffs", str(tmp_path / "bpf")]
    done = subprocess.run([*command, *where], capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=False)
    assert done.returncode == 1 and "CAP_SETUID" in done.stderr and "apply the bundle" in done.stderr, done.stderr
    assert not (tmp_path / "bpf").exists() and not list(tmp_path.glob("**/journal.jsonl"))
