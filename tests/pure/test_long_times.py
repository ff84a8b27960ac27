"""Every time that the language takes fits into a bundle that can be read again (a set's `timeout 1h` once did not)."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from compiler import bundle

POLICY = """nic wan { device eth0 }
set friends = { 198.51.100.0/24 }
set slow : address timeout 53000d never friends
filter wan in { drop src in slow; drop tcp dport 22 syn as scan then add src to slow for 53000d; default pass }
expect wan over 1d else warn { in.default packets > 0 }
"""


def test_times_of_days_and_centuries_come_back(tmp_path: Path) -> None:
    (tmp_path / "p.netc").write_text(POLICY)
    subprocess.run([sys.executable, "-m", "compiler", "compile", str(tmp_path / "p.netc"), "-o", str(tmp_path / "b")], check=True)
    read = bundle.decode((tmp_path / "b").read_bytes())
    assert read.sets[0].timeout == 53000 * 86400 * 10**9
    assert read.expects[0].window == 86400 * 10**9
