"""What a watchdog finds when it wakes: it ends what can be ended, and leaves what nobody can read, with a note."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime import watchdog
from runtime.context import Context
from runtime.state import Store


@pytest.mark.parametrize("content", [b"", b'{"command": "apply", "gener'], ids=["empty", "torn"])
def test_a_journal_that_died_before_its_intent_goes(tmp_path: Path, content: bytes) -> None:
    """Nothing had been done: no command should have to come to tidy up."""
    (store := Store(tmp_path / "state")).prepare()
    (journal := store.directory / "journal.jsonl").write_bytes(content)
    watchdog.watch(store, Context(store.directory, tmp_path / "bpf"))
    assert not journal.exists() and not watchdog.last(store)


def test_a_journal_that_nobody_can_read_stays_with_a_note(tmp_path: Path) -> None:
    (store := Store(tmp_path / "state")).prepare()
    (journal := store.directory / "journal.jsonl").write_bytes(b'{"command": 7}\n')
    watchdog.watch(store, Context(store.directory, tmp_path / "bpf"))
    assert journal.exists() and "is damaged" in "\n".join(watchdog.last(store))
