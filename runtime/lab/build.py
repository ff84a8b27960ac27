"""`up` and `down`: a lab is made whole or not at all, and removed exactly as far as it was made, also after a crash half way.

The record is written before anything is made, naming what will be netc's, and again with the namespaces' inodes. `down` goes by it: a
namespace of a right name but another inode is not netc's and stays.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.backends import bpf
from runtime.lab import netns, wiring
from runtime.lab.topology import DEFAULT_QUEUES, DIRECTORY, MAX_QUEUES, SIDES, LabError, Names, names

_MNT_DETACH = 2


@dataclass(frozen=True, slots=True)
class Record:
    """What `up` made or is about to make. made: every namespace with its inode (0: not made yet); whole: `up` came to its end."""

    queues: int
    made: dict[str, int]
    whole: bool


def up(name: str, queues: int = DEFAULT_QUEUES) -> Names:
    """Make lab `name`. Raises LabError when there is one, or something foreign is in the way; then nothing has changed."""
    lab = names(name)
    if not 1 <= queues <= MAX_QUEUES:
        raise LabError(f"a lab has 1 to {MAX_QUEUES} queues, not {queues}")
    with _locked(lab):
        _refuse_existing(lab)
        _write(lab, Record(queues, dict.fromkeys(lab.namespaces, 0), whole=False))
        try:
            _make(lab, queues)
        except BaseException as error:
            _remove(lab)
            if isinstance(error, OSError):
                raise LabError(f"the lab cannot be made: {error.strerror or error}") from error
            raise
    return lab


def down(name: str) -> bool:
    """Remove lab `name`, whole or half made. False when there was none. Raises LabError for what is not netc's to remove."""
    lab = names(name)
    if not lab.directory.exists():
        return False
    with _locked(lab):
        _remove(lab)
    return True


def labs() -> list[str]:
    """The names of all labs of this host, whole or half made."""
    return sorted(place.parent.name for place in DIRECTORY.glob("*/lab.json"))


def read(lab: Names) -> Record | None:
    """The lab's record, None when there is no lab. Raises LabError when the record is unreadable."""
    try:
        content = json.loads(lab.record.read_text())
        return Record(int(content["queues"]), {str(k): int(v) for k, v in content["made"].items()}, bool(content["whole"]))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise LabError(f"{lab.record} is damaged ({error}); remove what it names by hand: {', '.join(lab.namespaces)}") from None


def _make(lab: Names, queues: int) -> None:
    made: dict[str, int] = dict.fromkeys(lab.namespaces, 0)
    for name in lab.namespaces:
        wiring.namespace(name)
        made[name] = netns.identity(name)
        _write(lab, Record(queues, made, whole=False))
    for side in SIDES:
        wiring.cable(lab, side, queues)
    for side in SIDES:
        wiring.ends(lab, side)
    wiring.routes(lab)
    lab.state.mkdir(mode=0o700)
    bpf.mount_bpffs(lab.bpffs)
    _write(lab, Record(queues, made, whole=True))


def _remove(lab: Names) -> None:
    record = read(lab)
    for name, inode in (record.made if record else {}).items():
        if not netns.exists(name):
            continue
        if inode and netns.identity(name) != inode:
            raise LabError(f"network namespace {name} is not the one that netc made; it stays, remove it by hand or rename it")
        netns.delete(name)
    _unmount(lab.bpffs)
    shutil.rmtree(lab.directory, ignore_errors=False)


def _unmount(place: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    while place.exists() and bpf.is_bpffs(place):
        if libc.umount2(os.fsencode(place), _MNT_DETACH) != 0:
            number = ctypes.get_errno()
            if number == errno.EINVAL:  # inside a bpf file system that is not the lab's own
                return
            raise LabError(f"unmount {place}: {os.strerror(number)}")


def _refuse_existing(lab: Names) -> None:
    record = read(lab)
    if record is not None:
        state = "is up already" if record.whole else "was left half made"
        raise LabError(f"lab {lab.name} {state}; take it down with: netc lab down {lab.name}")
    for name in lab.namespaces:
        if netns.exists(name):
            raise LabError(f"network namespace {name} exists and is not netc's; choose another name: netc lab up NAME")


def _write(lab: Names, record: Record) -> None:
    """The record on the disk, whole, before what it announces is made."""
    beside = lab.record.with_suffix(".tmp")
    try:
        with open(beside, "w", encoding="utf-8") as file:
            json.dump({"queues": record.queues, "made": record.made, "whole": record.whole}, file)
            file.flush()
            os.fsync(file.fileno())
        beside.replace(lab.record)
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(lab.record)) from None


@contextmanager
def _locked(lab: Names) -> Iterator[None]:
    """One `up` or `down` at a time on this host; the lab's directory stays only while there is a lab in it."""
    if os.geteuid() != 0:
        raise LabError("a lab is made of network namespaces: run netc lab as root")
    DIRECTORY.mkdir(mode=0o755, parents=True, exist_ok=True)
    lock = os.open(DIRECTORY / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lab.directory.mkdir(mode=0o700, exist_ok=True)
        try:
            yield
        finally:
            if lab.directory.exists() and not lab.record.exists():
                with suppress(OSError):
                    lab.directory.rmdir()
    finally:
        os.close(lock)
