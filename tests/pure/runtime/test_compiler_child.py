"""The compiler's sandbox: what the child may do, seen from inside. A stand-in `compiler` package runs in the child's place."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from runtime import compiler_child
from runtime.compiler_child import CompilerFailed

PYTHON = sys.executable  # the fixture below changes it
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: dropping privileges")


@pytest.fixture
def stand_in(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An interpreter whose -m compiler runs the script that the test writes; everything else is as it is in the product."""
    script = tmp_path / "inside.py"
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\nshift 3\nexec {sys.executable} -I {script} "$@"\n')
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    return script


@as_root
def test_the_child_is_nobody_with_one_capability(stand_in: Path) -> None:
    stand_in.write_text("print(open('/proc/self/status').read())")
    status = dict(line.split(":\t", 1) for line in compiler_child.run_child([]).output.decode().splitlines() if ":\t" in line)
    assert status["Uid"].split() == ["65534"] * 4 and status["Gid"].split() == ["65534"] * 4
    assert status["Groups"].split() == [] and status["NoNewPrivs"] == "1"
    for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
        assert int(status[kind], 16) == 1 << 2, kind  # CAP_DAC_READ_SEARCH


@as_root
def test_the_child_reads_a_private_home_and_writes_nowhere_but_its_own(stand_in: Path, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    policy = home / "p.netc"
    policy.write_text("nic wan { device wan0 }")
    policy.chmod(0o600)
    stand_in.write_text(
        "import os, sys\n"
        "print(open(sys.argv[1]).read())\n"
        "for place in (sys.argv[1], sys.argv[1] + '.new', '/etc/netc-test', '/root/netc-test'):\n"
        "    try: open(place, 'a'); print('WROTE', place)\n"
        "    except PermissionError: print('refused')\n"
        "try: os.setuid(0); print('ROOT')\n"
        "except PermissionError: print('refused')\n"
        "open('scratch', 'w').write('x'); print(os.getcwd(), os.environ['TMPDIR'], os.listdir('.'))\n"
    )
    lines = compiler_child.run_child([str(policy)]).output.decode().splitlines()
    assert lines[0] == "nic wan { device wan0 }" and lines[1:6] == ["refused"] * 5
    directory, temporary, listing = lines[6].split(" ", 2)
    assert directory == temporary and listing == "['scratch']" and not Path(directory).exists()
    assert sorted(path.name for path in home.iterdir()) == ["p.netc"] and policy.read_text() == "nic wan { device wan0 }"


def test_a_module_beside_the_policy_or_in_the_path_is_never_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trap = f"open({str(tmp_path / 'trapped')!r}, 'w').close()\nraise SystemExit('trapped')\n"
    for name in ("lark.py", "msgspec.py", "compiler.py", "bcc.py"):
        (tmp_path / name).write_text(trap)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    policy = tmp_path / "p.netc"
    policy.write_text("nonsense\n")
    answer = compiler_child.run_child(["check", str(policy)])
    assert "trapped" not in answer.messages and not (tmp_path / "trapped").exists()


def test_a_compiler_that_does_not_end_is_stopped(stand_in: Path) -> None:
    stand_in.write_text("import time\ntime.sleep(600)")
    begun = time.monotonic()
    with pytest.raises(CompilerFailed, match=r"stopped after 0\.5 s; nothing was changed"):
        compiler_child.run_child([], wall=0.5)
    assert time.monotonic() - begun < 60


def test_memory_and_output_are_bounded(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stand_in.write_text("bytes(5 << 30)")
    answer = compiler_child.run_child([])
    assert answer.status == 1 and "MemoryError" in answer.messages
    monkeypatch.setattr(compiler_child.bundles, "MAX_FILE", 1 << 20)
    stand_in.write_text("import sys, signal\nsignal.signal(signal.SIGXFSZ, signal.SIG_DFL)\nsys.stdout.buffer.write(bytes(2 << 20))")
    with pytest.raises(CompilerFailed, match="larger than a bundle may be"):
        compiler_child.run_child([])


def test_diagnostics_come_back_with_the_refusal(stand_in: Path, tmp_path: Path) -> None:
    stand_in.write_text("import sys\n'compile' in sys.argv and print('error[N001]: no', file=sys.stderr)\nsys.exit(1)")  # not the child for C
    with pytest.raises(CompilerFailed, match=r"p\.netc was not compiled") as failed:
        compiler_child.compile(tmp_path / "p.netc")
    assert failed.value.messages == "error[N001]: no\n"


def test_the_child_dies_with_its_parent(stand_in: Path, tmp_path: Path) -> None:
    stand_in.write_text("import time\ntime.sleep(600)")
    script = (
        "import sys\nfrom runtime import compiler_child as c\nsys.executable = sys.argv[1]\n"
        "real = c._wait\n"
        "def wait(child, *rest):\n    print(child.pid, flush=True)\n    return real(child, *rest)\n"
        "c._wait = wait\nc.run_child([])\n"
    )
    environment = {**os.environ, "TMPDIR": str(tmp_path)}  # what the killed parent leaves goes with the test's directory
    parent = subprocess.Popen([PYTHON, "-c", script, sys.executable], stdout=subprocess.PIPE, text=True, env=environment)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    descriptor = os.pidfd_open(child)
    parent.kill()
    parent.wait()
    assert select.select([descriptor], [], [], 60)[0], "the compiler outlived netc"
    os.close(descriptor)
