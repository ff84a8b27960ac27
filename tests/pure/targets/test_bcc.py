"""bcc as a pure compiler: the same bytes for everybody, messages kept, nothing written, nothing needed."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from compiler.targets import bcc

ROOT = Path(__file__).resolve().parents[3]
TEXT = """
int netc(struct xdp_md *ctx) {
    u64 *word = (void *)bpf_pseudo_fd(2, 77);
    return __sync_val_compare_and_swap(word, 1, 2) ? 1 : 2;
}
"""
_CHILD = """
import os, sys
os.setgroups([]); os.setresgid(65534, 65534, 65534); os.setresuid(65534, 65534, 65534)
os.environ.pop("HOME", None)
from compiler.targets import bcc
sys.stdout.write(bcc.compile_c(sys.stdin.read(), "netc").hex())
"""


def test_maps_are_symbolic_ids() -> None:
    code = bcc.compile_c(TEXT, "netc")
    assert code[:2] == b"\x18\x22" or code[:2] == b"\x18\x21"  # ld_imm64, source register 2: a map's value
    assert int.from_bytes(code[4:8], "little") == 77


def test_errors_carry_clangs_words_and_leave_stderr_alone(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(bcc.CError, match="undeclared identifier 'nonsense'"):
        bcc.compile_c("int netc(struct xdp_md *ctx) { return nonsense; }", "netc")
    assert capfd.readouterr().err == ""


def test_the_environment_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARCH", "arm64")
    monkeypatch.delenv("BCC_KERNEL_SOURCE", raising=False)
    before = os.getcwd()
    x86 = bcc.compile_c(TEXT, "netc")
    assert (os.environ["ARCH"], os.environ.get("BCC_KERNEL_SOURCE"), os.getcwd()) == ("arm64", None, before)
    monkeypatch.delenv("ARCH")
    assert bcc.compile_c(TEXT, "netc") == x86


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become nobody")
def test_nobody_compiles_the_same_bytes_where_nothing_can_be_written() -> None:
    if not all(os.stat(place).st_mode & 1 for place in (ROOT, *ROOT.parents)):
        pytest.skip(f"{ROOT} is closed to nobody")
    with tempfile.TemporaryDirectory() as closed:
        os.chmod(closed, 0o755)
        made = subprocess.run(
            [sys.executable, "-c", _CHILD], input=TEXT, cwd=closed, capture_output=True, text=True, check=False,
            env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
        )  # fmt: skip
        assert made.returncode == 0, made.stderr
        assert bytes.fromhex(made.stdout) == bcc.compile_c(TEXT, "netc")
        assert not os.listdir(closed)
