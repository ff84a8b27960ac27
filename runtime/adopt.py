"""Taking over what another state directory installed, where that directory is still there: what it knows becomes ours, then an ordinary change follows.

Without it the change would start from nothing: cut short, it could not bring back what was in force before. Files first, marks last: until the marks are
ours nothing of it counts. A directory that was lost has nothing to give; then what was there before is not known.
"""

from __future__ import annotations

from pathlib import Path

from runtime import lock, owner, state
from runtime.context import Context
from runtime.owner import OwnerError
from runtime.state import Record, StateError, Store

_FILES = ("slots.json", "settings.json", "nft.json", "tc-drops.json", "foreign.json")


def source(context: Context) -> Store | None:
    """The state directory that all of what is here is marked with, where it can be read; None where it is ours, lost, or there is none. Raises StepError."""
    found = {mark for _, mark in owner.others(context)}
    pinned = owner.pinned(context)
    if not found or (pinned is not None and pinned.id == owner.known(context.state)):
        return None
    mark = pinned or min(found, key=lambda each: each.id)
    theirs = Path(mark.directory)
    if owner.known(theirs) != mark.id or not all(each.id == mark.id for each in found):
        return None
    store = Store(theirs)
    current = state.installed_here(store.record())
    if current is None or (pinned is None and store.bundle(current.bundle).programs):
        return None  # its programs are pinned in another bpf file system
    return store


def adopt(store: Store, context: Context) -> bool:
    """Make what another directory knows of this host ours, under its lock; whether there was one. Raises LockedError, OwnerError, StateError, StepError."""
    theirs = source(context)
    if theirs is None:
        return False
    with lock.exclusive(theirs.directory, "apply --take-over"):
        if (theirs.directory / "journal.jsonl").exists():
            where = f"--state-dir {theirs.directory}"
            raise OwnerError(f"a change of {theirs.directory} is on trial or was cut short; nothing was changed\n  = help: end it there first: netc recover {where}")
        _copy(theirs, store, context)
        _mark(context)
    return True


def _copy(theirs: Store, ours: Store, context: Context) -> None:
    record = theirs.record()
    assert record.current is not None  # as source() saw it
    for name in (record.current.bundle, theirs.base_of(record.current.bundle)):
        for path in (theirs.directory / "bundles").glob(f"{name}.*"):
            _file(path, ours.directory / "bundles" / path.name)
    for name in _FILES:
        _file(theirs.directory / name, ours.directory / name)
    own = ours.record()
    history = own.history + ((own.current,) if own.current else ())
    ours.write_record(Record(max(own.generation, record.generation), record.current, history, record.retired))


def _file(theirs: Path, ours: Path) -> None:
    try:
        state.write_atomically(ours, theirs.read_bytes())
    except FileNotFoundError:
        ours.unlink(missing_ok=True)  # of a policy that is no longer there
    except OSError as error:
        raise StateError(f"cannot read {theirs}: {error.strerror}") from None


def _mark(context: Context) -> None:
    """The pins and the nft tables say whose they are."""
    from runtime.backends import nft
    from runtime.backends.nft import NftError
    from runtime.steps import StepError, nft_content, nft_record

    try:
        commands = [each for family in nft_content.owners() for each in nft_content.marking(family, owner.comment(context))]
        if commands:
            nft.run(commands)
            nft_record.remarked(context.state)
        if owner.pinned(context) is not None:
            owner.mark_pins(context)
    except (NftError, OSError) as error:
        raise StepError("mark what is installed as ours", str(error)) from None
