"""A policy that takes more memory than the compiler may use is refused with that number, not with a traceback."""

from __future__ import annotations

import resource
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MIB = 150


def test_a_set_beyond_the_memory_is_a_refusal(tmp_path: Path) -> None:
    (tmp_path / "many.txt").write_text("\n".join(f"2001:db8:{n >> 16:x}:{n & 0xFFFF:x}::/65" for n in range(600_000)))
    policy = tmp_path / "edge.netc"
    policy.write_text('nic wan { device wan0 }\nset many = file "many.txt"\nfilter wan in {\n  drop src in many as many\n  default pass\n}\n')
    limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (MIB << 20, MIB << 20))
    run = [sys.executable, "-m", "compiler", "compile", str(policy), "-o", str(tmp_path / "bundle")]
    ended = subprocess.run(run, cwd=ROOT, capture_output=True, text=True, preexec_fn=limit, check=False)
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert f"error[N901]: compiling this takes more memory than the {MIB} MiB that it may take" in ended.stderr
    assert "help: make sets smaller" in ended.stderr
    assert not (tmp_path / "bundle").exists()
