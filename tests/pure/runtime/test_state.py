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

from runtime import lock, state
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
