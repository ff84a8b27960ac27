"""`-o` to what is no file: a device or a pipe is written into. (`-o /dev/null`, as root, once put a file in the device's place.)"""

from __future__ import annotations

import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

from runtime import state

POLICY = "nic wan { device eth0 }\nfilter wan in { default pass }\n"


def read_from(pipe: Path, got: list[bytes]) -> threading.Thread:
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()), daemon=True)
    reader.start()
    return reader


def test_a_pipe_is_written_into_and_stays_a_pipe(tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", list[bytes]()
    os.mkfifo(pipe)
    reader = read_from(pipe, got)
    state.write_atomically(pipe, b"whole")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    reader.join(timeout=30)
    assert got == [b"whole"]


def test_the_compiler_by_itself_does_the_same(tmp_path: Path) -> None:
    pipe, policy, got = tmp_path / "pipe", tmp_path / "p.netc", list[bytes]()
    policy.write_text(POLICY)
    os.mkfifo(pipe)
    reader = read_from(pipe, got)
    subprocess.run([sys.executable, "-m", "compiler", "compile", str(policy), "-o", str(pipe)], check=True, timeout=120)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    reader.join(timeout=30)
    assert got[0].startswith(b"netc-bundle 1 ")
