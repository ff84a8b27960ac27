"""Bytecode comes from what was kept, else from a second child that is given C text alone; the bundle is the same either way."""

from __future__ import annotations

import os
import random
import re
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from compiler.tables import framing
from compiler.targets import bcc
from runtime import compiler_child
from runtime.compiler_child import CompilerFailed

PYTHON = sys.executable  # the fixture below changes it
SERVICE = "compiler.targets.c_service"
TEXT = "int netc(struct xdp_md *ctx) { return 2; }"


def policy(path: Path, port: int = 53, rules: int = 400) -> Path:
    """Rules enough for tables: their numbers are data."""
    rng = random.Random(5)
    lines = [f"  pass tcp src 10.{rng.randrange(256)}.{rng.randrange(256)}.0/24 dport {rng.randrange(1, 1024)} as r{n}" for n in range(rules)]
    lines.append(f"  drop udp src 192.0.2.0/24 dport {port} as changed")
    path.write_text("\n".join(["nic wan { device wan0; xdp native }", "filter wan in {", *lines, "  default drop", "}", ""]))
    return path


WITHOUT_BCC = "import sys, runpy; sys.modules['bcc'] = None; runpy.run_module('compiler', run_name='__main__', alter_sys=True)"


@pytest.fixture
def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], tuple[bytes, list[str]]]:
    """Compiles, and says what the children were. The first of them cannot import bcc."""
    python = tmp_path / "python"
    python.write_text(
        f'#!/bin/sh\necho "child $3" >&2\n[ "$3" = compiler ] || exec {PYTHON} "$@"\nshift 3\nexec {PYTHON} -I -c "{WITHOUT_BCC}" "$@"\n'
    )
    python.chmod(0o755)

    def run(path: Path) -> tuple[bytes, list[str]]:
        with monkeypatch.context() as patched:
            patched.setattr(sys, "executable", str(python))
            made = compiler_child.compile(path)
        return made.output, re.findall("^child (.*)", made.messages, re.MULTILINE)

    return run


def test_a_changed_rule_never_runs_a_c_compiler(
    watched: Callable[[Path], tuple[bytes, list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    first, children = watched(policy(tmp_path / "p.netc"))
    assert children == ["compiler", SERVICE]
    second, children = watched(policy(tmp_path / "p.netc", port=54))
    assert children == ["compiler"] and second != first
    (tmp_path / "nothing").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nothing"))  # no directory: nothing is kept
    without, children = watched(tmp_path / "p.netc")
    assert children == ["compiler", SERVICE] and without == second


def test_a_damaged_program_is_made_anew(
    watched: Callable[[Path], tuple[bytes, list[str]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    first, _ = watched(policy(tmp_path / "p.netc"))
    (entry,) = (tmp_path / "netc/programs").iterdir()
    whole = entry.read_bytes()
    entry.write_bytes(whole[:-8] + bytes(8))
    second, children = watched(tmp_path / "p.netc")
    assert SERVICE in children and second == first and entry.read_bytes() == whole


@pytest.mark.parametrize("end", ["kill -9 $$", "exit 3"])
def test_a_c_compiler_that_dies_is_told_and_nothing_comes_of_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, end: str) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\n[ "$3" = {SERVICE} ] && {end}\nexec {PYTHON} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(CompilerFailed, match="the compiler was killed" if "kill" in end else "was not compiled"):
        compiler_child.compile(policy(tmp_path / "p.netc"))
    assert not list((tmp_path / "netc/programs").iterdir())


def test_the_service_answers_one_text_after_the_other_and_says_what_it_is() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        run = [PYTHON, "-I", "-m", SERVICE, "early"]
        child = subprocess.Popen(run, pass_fds=(theirs.fileno(),), env={"NETC_C_COMPILER": str(theirs.fileno())})
        theirs.close()
        ours.settimeout(60)
        for text, sign, said in ((TEXT, b"+", bcc.compile_c(TEXT, "netc")), ("int netc( {", b"-", b"expected"), (TEXT, b"+", b"")):
            framing.send(ours, f"netc\0{text}".encode())
            answer, files = framing.receive(ours), framing.receive(ours)
            assert answer and answer[:1] == sign and said in answer[1:]
            assert files and all(os.path.exists(file) for file in files.decode().split("\n")) and b"libbcc" in files and b"libLLVM" in files
        ours.close()
        assert child.wait(60) == 0


def test_a_question_that_is_too_long_gets_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And netc goes on: it waits for the child, as long as it may take, and no longer."""
    inside = tmp_path / "inside.py"
    inside.write_text(
        "import os, socket\n"
        "link = socket.socket(fileno=int(os.environ['NETC_C_COMPILER']))\n"
        "link.sendall(b'\\xff\\xff\\xff\\xff' + bytes(100))\n"
        "print(link.recv(1))\n"
    )
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nshift 3\nexec {PYTHON} -I {inside} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(CompilerFailed, match=r"stopped after 0\.5 s"):
        compiler_child.run_child([], wall=0.5)
