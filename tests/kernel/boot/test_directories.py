"""netc's directories are looked at before they are believed: by every command, and before the first pin."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from runtime import directories
from runtime.backends import bpf
from tests.kernel.apply.hosts import DNS, Host, made, program

COMMANDS = (["status"], ["counters"], ["remove"], ["rollback"], ["boot"], ["set", "list"])


def test_every_command_refuses_a_state_directory_of_somebody_elses(host: Host) -> None:
    bundle = host.write(made(program(DNS)))
    host.netc("apply", bundle)
    state = host.directory / "state"
    before = host.attached()
    for change, back, words in (
        (lambda: os.chmod(state, 0o750), lambda: os.chmod(state, 0o700), "mode 0750"),
        (lambda: os.chown(state, 65534, -1), lambda: os.chown(state, 0, -1), "uid 65534"),
        (lambda: os.chmod(host.directory, 0o777), lambda: os.chmod(host.directory, 0o700), "others can change the directory"),
    ):
        change()
        try:
            for command in (*COMMANDS, ["apply", str(bundle)], ["plan", str(bundle)]):
                told = host.netc(*command, status=1).stderr
                assert words in told and "help:" in told, (command, told)
        finally:
            back()
    assert host.attached() == before and host.json("verify")["ok"]


def test_pins_that_others_could_have_put_there(host: Host) -> None:
    bundle = host.write(made(program(DNS)))
    host.netc("apply", bundle)
    place = host.directory / "bpf"
    os.chmod(place, 0o755)
    for command in (*COMMANDS, ["apply", str(bundle)]):
        told = host.netc(*command, status=1).stderr
        assert "mode 0755" in told and f"chmod 700 {place}" in told, (command, told)
    os.chmod(place, 0o700)
    assert host.json("verify")["ok"]


def test_no_symbolic_link_on_the_way(host: Host) -> None:
    bundle = host.write(made(program(DNS)))
    (host.directory / "real").mkdir(mode=0o700)
    for name in ("state", "bpf"):
        subprocess.run(["umount", host.directory / name], check=False, capture_output=True)
        if (host.directory / name).exists():
            (host.directory / name).rmdir()
        (host.directory / name).symlink_to("real")
        told = host.netc("apply", bundle, status=1).stderr
        assert f"{name} is a symbolic link" in told and f"{host.directory}/real" in told, told
        (host.directory / name).unlink()
    assert host.attached()["xdp"] is None and not list((host.directory / "real").iterdir())


def test_a_directory_on_the_way_that_is_a_link(tmp_path: Path) -> None:
    (tmp_path / "real/inner").mkdir(parents=True)
    (tmp_path / "real/inner").chmod(0o700)
    (tmp_path / "link").symlink_to("real")
    directories.check(tmp_path / "real/inner", "--state-dir")
    directories.check(tmp_path / "real/none", "--state-dir")
    with pytest.raises(directories.DirectoryError, match="link is a symbolic link"):
        directories.check(tmp_path / "link/inner", "--state-dir")
    with pytest.raises(directories.DirectoryError, match="not in a bpf file system"):
        directories.require_bpffs(tmp_path / "real/inner")
    with pytest.raises(directories.DirectoryError, match="belongs to uid 1234"):
        os.chown(tmp_path / "real/inner", 1234, -1)
        directories.check(tmp_path / "real/inner", "--state-dir")


def test_descriptors_are_closed(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for path in (tmp_path, tmp_path / "none/further", Path("/etc/passwd/x")):
        for _ in range(3):
            try:
                directories.check_bpffs(path)
            except directories.DirectoryError:
                pass
    assert len(os.listdir("/proc/self/fd")) == before and not bpf.is_bpffs(tmp_path)
