"""Everything that netc reads, fuzzed for a few seconds each; `make test-long` for FUZZ_SECONDS a target (an hour). What was found once is read first."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.fuzz import drive
from tests.fuzz.mutations import ROOT
from tests.fuzz.targets import TARGETS, run

SECONDS = 3
LONG = int(os.environ.get("FUZZ_SECONDS", "3600"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
FOUND = sorted(path for path in (drive.CORPUS / "found").rglob("*") if path.is_file())


def test_every_target_is_guided_by_what_it_reads() -> None:
    assert set(drive.COVERED) == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_what_the_target_reads(name: str) -> None:
    """Else nothing behind the first check would ever be fuzzed."""
    seeds = TARGETS[name].seeds()
    assert seeds and sum(run(TARGETS[name], data) for data in seeds) * (10 if name == "policy" else 1) >= len(seeds) // 2


@pytest.mark.parametrize("path", FOUND, ids=lambda path: f"{path.parent.name}-{path.name}")
def test_what_was_found_is_mended(path: Path) -> None:
    run(TARGETS[path.parent.name], path.read_bytes())


@pytest.mark.parametrize("name", TARGETS)
def test_a_few_seconds(name: str, tmp_path: Path) -> None:
    assert fuzzed(name, SECONDS, tmp_path) > 20


@pytest.mark.long
@pytest.mark.parametrize("name", TARGETS)
def test_for_long(name: str, tmp_path: Path) -> None:
    print(f"\n{name}: {fuzzed(name, LONG, tmp_path):,} inputs in {LONG} s")


def fuzzed(name: str, seconds: int, directory: Path) -> int:
    """How many inputs were read. What went wrong is shown, with the file that does it again."""
    pytest.importorskip("atheris")
    command = [sys.executable, "-m", "tests.fuzz.drive", name, str(seconds), str(SEED), str(directory)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, errors="replace", check=False, timeout=seconds * 2 + 120)
    said = "\n".join(line for line in (done.stdout + done.stderr).splitlines() if not line.startswith("INFO: Instrumenting"))
    wrong = [path for path in directory.iterdir() if path.is_file()]
    assert done.returncode == 0 and not wrong, f"{name}: keep {wrong} as tests/fuzz/corpus/found/{name}/...\n{said[-6000:]}"
    counted = re.search(r"stat::number_of_executed_units: (\d+)", said)
    assert counted, said[-2000:]
    return int(counted[1])
