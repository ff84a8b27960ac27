"""A state directory that was damaged: every command names the file and the mend; following the mend works. Disks that refuse."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.kernel.hostile.terminal import OTHER, Terminal

COMMANDS = (("status",), ("counters",), ("verify",), ("rollback",), ("remove",), ("apply", "good.bundle"))
DAMAGE = {
    "state.json": [b"", b"null", b"\xff\xfe", b'{"generation": "x"}', b"[" * 100_000],
    "slots.json": [b"", b'{"wan": {"wan.in.dns": 999999999}}', b'{"wan": {"wan.in.dns": -1}}'],
    "settings.json": [b"", b'{"x": {"device": 1}}'],
    "journal.jsonl": [b'{"x": 1}\n', b'{"command": 7}\n'],
}
INTENT = {"command": "apply", "generation": 2, "new": "", "old": "", "bindings": {}, "old_bindings": {}, "boot": "x"}


@pytest.mark.parametrize("file", DAMAGE)
def test_damaged_files(installed: Terminal, file: str) -> None:
    path = installed.host.directory / "state" / file
    whole = path.read_bytes() if path.exists() else None
    assert installed.run("compile", "good.netc", "-o", "good.bundle", where=False).returncode == 0
    for data in DAMAGE[file]:
        for command in COMMANDS:
            if file in ("slots.json", "settings.json") and command[0] in ("remove", "rollback"):
                continue  # these may not need it
            path.write_bytes(data)
            done = installed.run(*command)
            told = f"{file} {data[:40]!r}: {command}: exit {done.returncode}\n{done.stdout}{done.stderr}"
            if file == "state.json" or (file == "journal.jsonl" and command[0] != "rollback"):
                assert done.returncode == 1 and file in done.stderr and "help:" in done.stderr, told
            elif done.returncode:
                assert file in done.stdout + done.stderr or "error" in done.stderr or "broken" in done.stdout, told
    if whole is not None:
        path.write_bytes(whole)
    else:
        path.unlink(missing_ok=True)
    installed.done("apply", "good.bundle")
    installed.done("verify")


@pytest.mark.parametrize("line", [b'{"begun": 1}', b'{"started": 7}', b'{"started": ["stage"]}', b'{"started": ["a", "b", "c"]}', b"[]", b"\xff", b"{"])
def test_damaged_lines_of_a_journal(installed: Terminal, line: bytes) -> None:
    path = installed.host.directory / "state/journal.jsonl"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    path.write_bytes(json.dumps({**INTENT, "boot": boot}).encode() + b"\n" + line + b"\n")
    before = installed.host.attached()
    done = installed.run("status")
    assert "journal.jsonl" in done.stderr or "is not finished" in done.stderr, done.stderr
    done = installed.run("apply", "good.netc")
    if done.returncode:
        assert "journal.jsonl" in done.stderr, done.stderr
        path.unlink()
    assert installed.host.attached()["xdp"] == before["xdp"]


def test_a_stored_bundle_that_is_gone_or_cut(installed: Terminal) -> None:
    path = next((installed.host.directory / "state/bundles").glob("*.bundle"))
    path.write_bytes(path.read_bytes()[:-1])
    for command in (("status",), ("verify",), ("remove",)):
        assert "bundle" in installed.refused(*command)
    path.unlink()
    assert "apply" in installed.refused("counters")


def test_the_mend_of_a_damaged_record(installed: Terminal) -> None:
    """What netc says when state.json is damaged can be done, and the policy is in force afterwards."""
    path = installed.host.directory / "state/state.json"
    path.write_bytes(b"{")
    said = installed.refused("apply", "good.netc")
    assert "--force" not in said and "state.json" in said and "away" in said
    path.unlink()
    installed.done("apply", "good.netc")
    installed.done("verify")
    installed.done("remove")


@contextmanager
def mounted(kind: str, place: Path, options: str) -> Iterator[None]:
    place.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", kind, "-o", options, kind, str(place)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_full_disk(terminal: Terminal) -> None:
    """The state directory has no room: nothing is installed; with room it works."""
    policy = terminal.write("good.netc", OTHER)
    state = terminal.host.directory / "state"
    with mounted("tmpfs", state, "size=64k,mode=0700"):
        (state / "ballast").write_bytes(bytes(48 << 10))
        for size in (12 << 10, 8 << 10, 4 << 10):
            with (state / "more").open("wb") as file, suppress(OSError):
                while os.write(file.fileno(), b"x" * 512):
                    pass
            os.truncate(state / "more", max(0, (state / "more").stat().st_size - size))
            done = terminal.run("apply", policy)
            if done.returncode == 0:
                terminal.done("remove")
                continue
            assert "No space left on device" in done.stderr and str(state) in done.stderr, done.stderr
            assert terminal.host.attached()["xdp"] is None
            assert "nothing is installed" in terminal.run("status").stderr
        (state / "more").unlink()
        (state / "ballast").unlink()
        terminal.done("apply", policy)
        terminal.done("remove")


def test_a_read_only_bpffs(terminal: Terminal) -> None:
    place = terminal.host.directory / "bpf"
    policy = terminal.write("good.netc", OTHER)
    with mounted("bpf", place, "mode=0700"):
        subprocess.run(["mount", "-o", "remount,ro", str(place)], check=True)
        said = terminal.refused("apply", policy)
        assert "Read-only file system" in said and "--bpffs" in said
        subprocess.run(["mount", "-o", "remount,rw", str(place)], check=True)
        terminal.done("apply", policy)
        terminal.done("remove")
