"""The state directory, its lock, its journal: what a crash leaves is the old content or the new."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest

from runtime import lock, processes, state, trial
from runtime.journal import Intent, Journal
from runtime.state import Installed, Record, StateError, Store
from tests.pure.runtime.bundles import small_bundle_bytes

INTENT = Intent("apply", 4, "b" * 64, "", {"wan": "wan0"}, {}, "boot")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "state")
    made.prepare()
    return made


def test_nothing_was_ever_written(tmp_path: Path) -> None:
    empty = Store(tmp_path / "none")
    assert empty.record() == Record() and empty.slots() == {}
    assert not (tmp_path / "none").exists()


def test_history_is_bounded_and_its_bundles_are_kept(store: Store) -> None:
    record = Record()
    for number in range(15):
        name = store.keep_bundle(small_bundle_bytes(f"p{number}.netc"))
        record = state.installed_now(record, name, f"p{number}.netc", {"wan": "wan0"})
        store.write_record(record)
    kept = store.record()
    assert kept.generation == 15 and len(kept.history) == state.HISTORY
    assert [entry.policy for entry in kept.history] == [f"p{n}.netc" for n in range(4, 14)]
    files = {path.stem for path in (store.directory / "bundles").iterdir()}
    assert kept.current is not None and files == {entry.bundle for entry in (*kept.history, kept.current)}
    assert store.bundle(kept.history[0].bundle).policy == "p4.netc"


def test_removal_keeps_the_history(store: Store) -> None:
    record = state.installed_now(Record(), store.keep_bundle(small_bundle_bytes("p.netc")), "p.netc", {})
    removed = state.removed_now(record)
    assert removed.current is None and removed.generation == 2 and removed.history == (record.current,)


@pytest.mark.parametrize("content", [b"", b"{", b'{"generation": "x"}', b'{"unknown": 1}', b"\xff\xfe"])
def test_damaged_files_are_named(store: Store, content: bytes) -> None:
    (store.directory / "state.json").write_bytes(content)
    with pytest.raises(StateError, match=r"state\.json is damaged"):
        store.record()


def test_a_damaged_stored_bundle_is_named(store: Store) -> None:
    name = store.keep_bundle(small_bundle_bytes("p.netc"))
    path = store.directory / "bundles" / f"{name}.bundle"
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(StateError, match="damaged"):
        store.bundle(name)


def test_a_failed_write_leaves_the_old_content_and_no_litter(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    store.write_slots({"wan": {"a": 1}})

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    with pytest.raises(StateError, match="No space left"):
        store.write_slots({"wan": {"a": 2}})
    assert store.slots() == {"wan": {"a": 1}}
    assert sorted(path.name for path in store.directory.iterdir()) == ["bundles", "slots.json"]


def test_the_second_comer_is_told_at_once_who_is_at_work(store: Store) -> None:
    with lock.exclusive(store.directory, "apply"):
        script = (
            "import sys, pathlib; from runtime import lock\n"
            "try:\n with lock.exclusive(pathlib.Path(sys.argv[1]), 'remove'): print('got it')\n"
            "except lock.LockedError as error: print(error)"
        )
        told = subprocess.run([sys.executable, "-c", script, store.directory], capture_output=True, text=True, check=True)
    assert re.search(rf"netc apply \(pid {os.getpid()}, since \d\d:\d\d:\d\d\) is at work", told.stdout)
    with lock.exclusive(store.directory, "apply"):
        pass


def test_the_journal_tells_what_was_started(store: Store) -> None:
    journal = Journal(store.directory)
    journal.begin(INTENT)
    journal.started("stage", "load maps")
    journal.started("flip", "attach")
    found = Journal(store.directory).unfinished()
    assert found is not None and found.intent == INTENT and found.started == (("stage", "load maps"), ("flip", "attach"))
    journal.close()
    assert Journal(store.directory).unfinished() is None


def test_a_journal_cut_at_any_byte_is_read_up_to_its_last_whole_line(store: Store) -> None:
    journal = Journal(store.directory)
    journal.begin(INTENT)
    journal.started("stage", "load maps")
    journal.started("flip", "attach")
    whole = journal.path.read_bytes()
    ends = [n + 1 for n, byte in enumerate(whole) if byte == 10]
    for length in range(len(whole) + 1):
        journal.path.write_bytes(whole[:length])
        found = Journal(store.directory).unfinished()
        lines = sum(end <= length for end in ends)
        assert (None if found is None else len(found.started)) == (None if lines == 0 else lines - 1)


def test_a_file_that_is_no_journal_is_refused(store: Store) -> None:
    (store.directory / "journal.jsonl").write_text(json.dumps({"something": "else"}) + "\n")
    with pytest.raises(StateError, match="is damaged"):
        Journal(store.directory).unfinished()


def test_records_read_back_as_written(store: Store) -> None:
    record = Record(3, Installed(3, "a" * 64, "p.netc", {"wan": "wan0"}, 1, "boot"), ())
    store.write_record(record)
    assert store.record() == record
    assert msgspec.json.decode((store.directory / "state.json").read_bytes())["generation"] == 3
    assert (store.directory / "state.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("fails", ["sync_directory", "changes"])
def test_what_fails_behind_the_commit_does_not_undo_it(store: Store, monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """state.json has its new name: an error here would take the change back in the kernel, and the record would go on naming it."""

    def refuse(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    name = store.keep_bundle(small_bundle_bytes("p.netc"))
    with monkeypatch.context() as patched:
        patched.setattr(*((state, "sync_directory") if fails == "sync_directory" else (Store, "change")), refuse)
        store.write_record(state.installed_now(Record(), name, "p.netc", {}))
    current = store.record().current
    assert current is not None and current.bundle == name


def test_what_was_left_half_written_goes_and_what_is_being_written_stays(store: Store) -> None:
    own = processes.find(os.getpid())
    assert own is not None
    dead, unburied = subprocess.Popen(["true"]), subprocess.Popen(["true"])
    dead.wait()
    os.waitid(os.P_PID, unburied.pid, os.WEXITED | os.WNOWAIT)
    zombie = processes.find(unburied.pid)
    assert zombie is not None and zombie.gone
    gone = [store.directory / f".state.json.{dead.pid}-1-abc_1", store.directory / f"bundles/.x.bundle.{dead.pid}-1-zz"]
    gone += [store.directory / f".state.json.{own.pid}-{own.started - 1}-abc", store.directory / f".state.json.{zombie.pid}-{zombie.started}-abc"]
    kept = [store.directory / f".state.json.{own.pid}-{own.started}-abc", store.directory / "state.json", store.directory / "bundles/x.bundle"]
    for path in (*gone, *kept):
        path.write_bytes(b"x")
    store.sweep()
    unburied.wait()
    assert not any(path.exists() for path in gone) and all(path.exists() for path in kept)


def test_the_name_of_a_half_written_file_is_one_that_is_found(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is killed at the rename: here another one finds its file."""
    child = os.fork()
    if child == 0:
        monkeypatch.setattr(os, "replace", lambda *_: os._exit(0))
        store.write_slots({"wan": {"a": 1}})
    os.waitpid(child, 0)
    assert [path for path in store.directory.iterdir() if path.name.startswith(".slots.json.")]
    store.sweep()
    assert not [path for path in store.directory.iterdir() if path.name.startswith(".slots.json.")]


def test_a_trial_that_is_being_ended_is_over_for_whoever_goes_on(store: Store) -> None:
    journal = Journal(store.directory)
    journal.begin(INTENT)
    journal.on_trial(1e12)
    journal.leave()
    Journal(store.directory).end_trial()
    found = journal.unfinished()
    assert found is not None and found.deadline == 0.0 and trial.is_over(found)


def test_a_journal_that_cannot_be_removed_is_told(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(4, "Interrupted system call")

    journal = Journal(store.directory)
    journal.begin(INTENT)
    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", refuse)
        with pytest.raises(StateError, match="journal.jsonl: Interrupted system call"):
            journal.close()


@pytest.mark.parametrize("call", ["ftruncate", "pwrite"])
def test_a_lock_that_cannot_be_taken_is_told(store: Store, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def refuse(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        with pytest.raises(lock.LockedError, match="lock: Cannot allocate memory; nothing was changed"), lock.exclusive(store.directory, "apply"):
            pytest.fail("the lock is not held")


@pytest.mark.parametrize("call", ["write", "fsync"])
def test_a_journal_that_cannot_be_begun_leaves_no_file(store: Store, monkeypatch: pytest.MonkeyPatch, call: str) -> None:
    def refuse(*_: object) -> None:
        raise OSError(12, "Cannot allocate memory")

    journal = Journal(store.directory)
    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuse)
        with pytest.raises(StateError, match="journal.jsonl: Cannot allocate memory"):
            journal.begin(INTENT)
    assert not journal.path.exists()
