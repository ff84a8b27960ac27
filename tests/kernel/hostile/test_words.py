"""What the commands print: one JSON document each, the right exit status, the right words for what was refused, the file that is full."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from tests.kernel.apply.hosts import DNS, ESTABLISHED, ROOT, made, program
from tests.kernel.hostile.terminal import OTHER, Terminal
from tests.kernel.hostile.test_state import mounted
from tests.pure.runtime.bundles import expect

NETC = [sys.executable, "-m", "runtime.cli"]


def netc(*arguments: str | Path, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*NETC, *map(str, arguments)], capture_output=True, text=True, cwd=ROOT, check=False, **more)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize(
    "words",
    [
        ["apply", "p.bundle", "--nic", "wan"], ["apply", "p.bundle", "--nic", "wan=a", "--nic", "wan=b"], ["lab", "send"],
        ["lab", "send", "--pcap", "x", "icmp"], ["counters", "--openmetrics", "--json"], ["lab", "up", "../x"], ["nosuch"], ["apply"],
    ],
)  # fmt: skip
def test_wrong_usage_is_status_2(terminal: Terminal, words: list[str]) -> None:
    terminal.host.write(made(program(DNS)))
    done = subprocess.run([*NETC, *words], capture_output=True, text=True, cwd=terminal.host.directory, check=False, env={**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 2 and done.stderr, done


def test_each_command_says_what_it_refused(tmp_path: Path) -> None:
    for words in (["explain", "N000"], ["lab", "send", "nonsense"]):
        said = netc(*words).stderr
        assert "policy is refused" not in said, said
    (tmp_path / "lonely.netc").write_bytes(OTHER)
    said = netc("lab", "demo", tmp_path / "lonely.netc").stderr
    assert "lonely.packets" in said and "help:" in said and "docs/lab.md" in said


def test_replay_by_the_kernel_needs_root() -> None:
    with tempfile.TemporaryDirectory() as name:  # tmp_path lies where only root looks
        here = Path(name)
        here.chmod(0o755)
        (here / "p.netc").write_bytes(OTHER)
        (here / "x.pcap").write_bytes(bytes.fromhex("d4c3b2a1020004000000000000000000ffff000001000000") + bytes(16))
        said = netc("replay", here / "p.netc", here / "x.pcap", "--engine", "xdp", user="nobody", extra_groups=[]).stderr
    assert "needs root" in said and "--engine interp" in said and "create map" not in said, said


def test_apply_and_verify_are_one_document(terminal: Terminal) -> None:
    host = terminal.host
    host.netc("apply", host.write(made(program(DNS, ESTABLISHED), "first.netc"), "first.bundle"))
    whole = host.json("apply", host.write(made(program(DNS)), "second.bundle"), "--verify")
    assert whole["changed"] and whole["verified"]["ok"] and whole["rolled_back"] is None
    broken = made(program(DNS, ESTABLISHED), "broken.netc", expects=(expect("wan.in.dns", ">", 10),))
    whole = host.json("apply", host.write(broken, "broken.bundle"), "--verify", status=1)
    assert not whole["verified"]["ok"] and whole["rolled_back"]["changed"] and whole["rolled_back"]["installed"]["policy"] == "p.netc"
    assert host.netc("rollback").stdout.splitlines()[-1].startswith("rolled back: ")


@pytest.mark.parametrize("command", [["compile", "-o"], ["lab", "capture", "--idle", "0.1", "--lab"]], ids=["bundle", "pcap"])
def test_a_full_disk_is_named(terminal: Terminal, command: list[str]) -> None:
    full = terminal.host.directory / "full"
    policy = terminal.write("good.netc", OTHER)
    with mounted("tmpfs", full, "size=4k,mode=0777"):
        (full / "ballast").write_bytes(bytes(4096))
        if command[0] == "compile":
            said = netc("compile", terminal.cwd / policy, "-o", full / "x.bundle").stderr
            assert f"{full}/x.bundle" in said and "No space left" in said, said
            with (full / "out").open("wb") as out:
                words = [sys.executable, "-m", "compiler", "compile", terminal.cwd / policy, "--emit", "ir"]
                said = subprocess.run(words, stdout=out, stderr=subprocess.PIPE, text=True, cwd=ROOT, check=False).stderr
            assert "writing the result" in said and "No space left" in said, said
            return
        from compiler.tables import capture

        with pytest.raises(OSError) as refused:
            capture.write(full / "x.pcap", [(1, bytes(60))] * 1000)
        assert refused.value.filename == str(full / "x.pcap")


def test_json_of_a_rollback_is_one_document(terminal: Terminal) -> None:
    host = terminal.host
    for name, rules in (("a", (DNS,)), ("b", (DNS, ESTABLISHED))):
        host.netc("apply", host.write(made(program(*rules), f"{name}.netc"), f"{name}.bundle"))
    assert json.loads(host.netc("rollback", "--json").stdout)["command"] == "rollback"
