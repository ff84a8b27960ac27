"""The history's numbers, what a rollback goes to, and damaged files, named."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from runtime import history, state
from runtime.history import HistoryError
from runtime.state import Record, Store
from tests.pure.runtime.bundles import small_bundle_bytes


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "state")
    made.prepare()
    return made


def applied(store: Store, *policies: str) -> Record:
    record = store.record()
    for name in policies:
        record = state.installed_now(record, store.keep_bundle(small_bundle_bytes(name)), name, {"wan": "wan0"}, "apply")
        store.write_record(record)
    return store.record()


def test_the_newest_first_with_numbers_that_stay(store: Store) -> None:
    applied(store, "a", "b", "c")
    assert [(e.installed.number, e.installed.policy, e.installed.command, e.state) for e in history.entries(store)] == [
        (3, "c", "apply", "installed"), (2, "b", "apply", ""), (1, "a", "apply", ""),
    ]  # fmt: skip
    store.write_record(state.removed_now(store.record()))
    applied(store, "d")
    assert [e.installed.number for e in history.entries(store)] == [5, 3, 2, 1], "a removal has a number, too"


def test_without_a_number_the_newest_other_one(store: Store) -> None:
    record = applied(store, "a", "b", "b")
    assert history.wanted(record, None).policy == "a"
    assert history.wanted(state.removed_now(record), None).policy == "b"
    with pytest.raises(HistoryError, match="nothing to roll back to"):
        history.wanted(Record(), None)


def test_by_number(store: Store) -> None:
    record = applied(store, *(f"p{n}" for n in range(1, 15)))
    assert history.wanted(record, 5).policy == "p5" and history.wanted(record, 14).policy == "p14"
    with pytest.raises(HistoryError, match=r"number 2 is not in the history: the last 10 before the installed one are kept\n.*there is: 4, 5, "):
        history.wanted(record, 2)
    for number in (0, -1, 15, 1 << 70):
        with pytest.raises(HistoryError, match="there never was one"):
            history.wanted(record, number)


def test_what_a_reboot_took_off_comes_back(store: Store) -> None:
    record = applied(store, "a")
    assert record.current is not None
    rebooted = msgspec.structs.replace(record, current=msgspec.structs.replace(record.current, boot="another"))
    assert history.wanted(rebooted, None).policy == "a" and history.wanted(rebooted, 1).policy == "a"


@pytest.mark.parametrize("damage", [b"", b"netc-bundle 1 x\n", b"\0" * 100])
def test_a_damaged_bundle_is_named_in_its_entry(store: Store, damage: bytes) -> None:
    applied(store, "a", "b")
    old = history.entries(store)[1].installed
    (store.directory / "bundles" / f"{old.bundle}.bundle").write_bytes(damage)
    assert f"bundle {old.bundle[:12]} in {store.directory}/bundles is damaged" in history.entries(store)[1].state
    (store.directory / "bundles" / f"{old.bundle}.bundle").unlink()
    assert "no longer in" in history.entries(store)[1].state


def test_a_record_of_an_earlier_netc_is_read(store: Store) -> None:
    applied(store, "a")
    path = store.directory / "state.json"
    content = json.loads(path.read_text())
    del content["current"]["command"], content["current"]["sequence"]
    path.write_text(json.dumps(content))
    entry = history.entries(store)[0].installed
    assert (entry.number, entry.command, entry.sequence) == (1, "", 0)


def test_a_file_with_another_bundle_in_it_is_damaged(store: Store) -> None:
    record = applied(store, "a", "b")
    assert record.current is not None
    old = record.history[0].bundle
    files = store.directory / "bundles"
    (files / f"{old}.bundle").write_bytes((files / f"{record.current.bundle}.bundle").read_bytes())
    assert "is damaged: it is another bundle" in history.entries(store)[1].state
