"""The same policy gives the same bytes: from another folder, by another path, with another hash seed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

POLICIES = Path(__file__).resolve().parents[2] / "policies"


def compiled(policy: str, cwd: Path, out: Path, seed: str) -> bytes:
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    subprocess.run([sys.executable, "-m", "compiler", "compile", policy, "-o", str(out)], cwd=cwd, env=environment, check=True, timeout=120)
    return out.read_bytes()


def test_bytes_do_not_depend_on_place_path_or_hash_seed(tmp_path: Path) -> None:
    copy = tmp_path / "elsewhere"
    shutil.copytree(POLICIES, copy)
    repository = POLICIES.parent
    first = compiled("policies/edge.netc", repository, tmp_path / "a", "1")
    assert compiled(str(POLICIES / "edge.netc"), repository, tmp_path / "b", "2") == first
    assert compiled(str(copy / "edge.netc"), repository, tmp_path / "c", "3") == first
