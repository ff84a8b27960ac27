"""up and down: whole or not at all, and never anything that is not the lab's own."""

from __future__ import annotations

import time
from contextlib import ExitStack
from pathlib import Path

import pytest

from runtime.backends import bpf
from runtime.lab import build, netns, topology, wiring
from runtime.lab.lab import Lab, find
from runtime.lab.listen import Listener
from runtime.lab.topology import LabError

_QUIET_SECONDS = 2.5  # longer than the kernel's second report of a group (1 s) and router solicitation


def test_a_lab_is_whole_and_its_own(lab: Lab) -> None:
    assert bpf.is_bpffs(lab.names.bpffs)
    assert lab.names.bpffs.stat().st_mode & 0o777 == 0o700
    assert find(lab.names.name) == lab
    assert lab.names.name in build.labs()
    context = lab.context(["wan", "lan"])
    assert [(d.nic, d.name, d.ifindex) for d in context.devices] == [("wan", "wan0", 11), ("lan", "lan0", 12)]


def test_twice_says_so_and_changes_nothing(lab: Lab) -> None:
    before = build.read(lab.names)
    with pytest.raises(LabError, match="is up already; take it down with"):
        build.up(lab.names.name)
    assert build.read(lab.names) == before


def test_nobody_speaks_unasked(lab: Lab) -> None:
    with ExitStack() as stack:
        listeners = []
        for side in topology.SIDES:
            for enter, device in ((lab.enter(), side.device), (lab.enter_peer(side), side.peer)):
                with enter:
                    listeners.append(stack.enter_context(Listener(device)))
        began = time.monotonic()
        heard = [frame.hex() for listener in listeners for _, frame in listener.frames(_QUIET_SECONDS / len(listeners))]
        assert time.monotonic() - began >= _QUIET_SECONDS * 0.9
    assert heard == []


def test_what_was_left_half_made_goes(unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A crash after the second namespace: nothing undoes anything, only the record is there."""

    def crash(*_: object) -> None:
        raise SystemExit

    names = topology.names(unique)
    with monkeypatch.context() as patch:
        patch.setattr(wiring, "cable", crash)
        patch.setattr(build, "_remove", lambda lab: None)
        with pytest.raises(SystemExit):
            build.up(unique)
    assert netns.exists(names.netns("dut"))
    with pytest.raises(LabError, match="was left half made; remove it with"):
        find(unique)
    with pytest.raises(LabError, match="was left half made; take it down"):
        build.up(unique)
    assert build.down(unique)
    assert not any(netns.exists(name) for name in names.namespaces)
    assert not names.directory.exists()


def test_a_failure_half_way_leaves_nothing(unique: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(wiring, "routes", refuse)
    with pytest.raises(LabError, match="the lab cannot be made: No space left on device"):
        build.up(unique)
    names = topology.names(unique)
    assert not any(netns.exists(name) for name in names.namespaces)
    assert not names.directory.exists()


def test_a_foreign_namespace_is_in_the_way_and_stays(unique: str) -> None:
    names = topology.names(unique)
    foreign = names.netns("lan")
    netns.create(foreign)
    try:
        with pytest.raises(LabError, match=f"network namespace {foreign} exists and is not netc's"):
            build.up(unique)
        assert netns.exists(foreign)
        assert not netns.exists(names.netns("dut"))
        assert not names.directory.exists()
    finally:
        netns.delete(foreign)


def test_a_namespace_that_someone_replaced_stays(unique: str) -> None:
    names = build.up(unique, queues=1)
    theirs = names.netns("lan")
    netns.delete(theirs)
    netns.create(theirs)
    with pytest.raises(LabError, match="is not the one that netc made"):
        build.down(unique)
    assert netns.exists(theirs)
    netns.delete(theirs)
    assert build.down(unique)


def test_down_of_nothing_is_told(unique: str) -> None:
    assert build.down(unique) is False
    with pytest.raises(LabError, match="there is no lab"):
        find(unique)


def test_a_damaged_record_is_an_error(unique: str) -> None:
    names = topology.names(unique)
    names.directory.mkdir(parents=True)
    try:
        Path(names.record).write_text("{")
        with pytest.raises(LabError, match="is damaged"):
            build.down(unique)
    finally:
        names.record.unlink()
        names.directory.rmdir()


@pytest.mark.parametrize("queues", [0, 65])
def test_queues_are_bounded(unique: str, queues: int) -> None:
    with pytest.raises(LabError, match=f"1 to 64 queues, not {queues}"):
        build.up(unique, queues)
