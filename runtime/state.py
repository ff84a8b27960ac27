"""What netc installed on this host, on disk: the state directory.

    <state>/lock           flock(2) of whoever changes something (runtime.lock)
    <state>/state.json     generation, what is installed, what was before (`Record`)
    <state>/slots.json     {nic: {counter name: slot}} and more of the kind (runtime.slots): a counter keeps its slot, so that it survives an apply
    <state>/journal.jsonl  the intents of an unfinished apply (runtime.journal)
    <state>/bundles/<sha256>.bundle   every bundle that state.json names; a change of single rules (compiler.tables.changes) is one too
    <state>/bundles/<sha256>.index    what a change of single rules has to know of that bundle (compiler.change_index)
    <state>/bundles/<sha256>.sets     what `netc set` asks of it (runtime.set_view)

Every write is atomic (a new file, fsync, rename, fsync of the directory): a crash leaves the old content or the new one.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from compiler import bundle as bundles
from compiler.bundle import Bundle
from compiler.tables import changes
from compiler.tables.changes import Delta
from runtime import processes, set_view
from runtime.boot import boot_id
from runtime.retired import Entry

HISTORY = 10  # installed bundles that are kept for `netc rollback`
Slots = dict[str, dict[str, int]]
_SLOTS = dict[str, dict[str, Annotated[int, msgspec.Meta(ge=0, lt=bundles.COUNTER_SLOTS[-1])]]]
T = TypeVar("T")


class StateError(Exception):
    """The state directory cannot be used. The text says what is wrong and what to do."""


class Installed(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One bundle on the devices it was bound to. `bindings`: nic → device name. `when`: Unix time in seconds.

    boot: the kernel's boot id; nothing of netc's in the kernel outlives a reboot. command: by which command it came, "" where that was not kept.
    sequence: what the record's generation was then; a change of rules in place has a number of its own and keeps the generation of its pins.
    """

    generation: int
    bundle: str
    policy: str
    bindings: dict[str, str]
    when: int
    boot: str
    command: str = ""
    sequence: int = 0

    @property
    def number(self) -> int:
        """What `netc history` calls it."""
        return self.sequence or self.generation


class Record(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole of state.json. `generation` only ever grows; `history` has the oldest first and not `current`."""

    generation: int = 0
    current: Installed | None = None
    history: tuple[Installed, ...] = ()
    retired: dict[str, Entry] = {}  # runtime.retired.Ledger


class Store:
    """The state directory. Making a Store changes nothing on disk; reading works where nothing was ever written."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def prepare(self) -> None:
        """Make the directory (0700). Raises StateError where that cannot be or where others could write in it."""
        try:
            (self.directory / "bundles").mkdir(mode=0o700, parents=True, exist_ok=True)
            self.directory.chmod(0o700)
        except OSError as error:
            raise StateError(f"cannot use the state directory {self.directory}: {error.strerror}; "
                             "run as root, or give another one with --state-dir") from None  # fmt: skip
        if self.directory.stat().st_uid != os.geteuid():
            raise StateError(f"the state directory {self.directory} belongs to another user; its content cannot be trusted")

    def record(self) -> Record:
        """What is installed and what was. Raises StateError when the file is damaged."""
        text = self._read("state.json")
        return Record() if text is None else _decode(text, Record, self.directory / "state.json")

    def write_record(self, record: Record, prune: bool = True) -> None:
        """Keep at most HISTORY earlier entries, and no bundle file that nobody names any more. prune False: an unfinished change may still name one."""
        record = msgspec.structs.replace(record, history=record.history[-HISTORY:])
        _replace(self.directory / "state.json", msgspec.json.format(msgspec.json.encode(record, order="deterministic")), 0o600)
        # That rename was the commit: what fails behind it must not say that there was none. A power failure may lose it, and takes the kernel's state along.
        with suppress(OSError):
            sync_directory(self.directory)
        if prune:
            with suppress(OSError, StateError):  # the next record is pruned, too
                self._prune(record)

    def _prune(self, record: Record) -> None:
        named = {entry.bundle for entry in (*record.history, *([record.current] if record.current else []))}
        named |= {change.base for change in map(self.change, named) if change}
        for path in list((self.directory / "bundles").iterdir()):
            if path.suffix in (".bundle", ".index", ".sets") and path.stem not in named:
                path.unlink(missing_ok=True)

    def sweep(self) -> None:
        """Remove what processes that died have left half written. The caller holds the lock. Raises StateError."""
        try:
            for path in (*self.directory.iterdir(), *(self.directory / "bundles").iterdir()):
                written_by = _HALF_WRITTEN.fullmatch(path.name)
                if written_by and not _is_alive(int(written_by[1]), int(written_by[2])):
                    path.unlink(missing_ok=True)
        except OSError as error:
            raise StateError(f"cannot tidy {self.directory}: {error.strerror}") from None

    def slots(self) -> Slots:
        """runtime.slots.Tables: which slot of its nic's counter map each counter has."""
        text = self._read("slots.json")
        return {} if text is None else _decode(text, _SLOTS, self.directory / "slots.json")

    def write_slots(self, slots: Slots) -> None:
        self._write("slots.json", msgspec.json.encode(slots))  # in the order in which they came

    def keep_bundle(self, data: bytes, bundle: Bundle | None = None) -> str:
        """Store a bundle file's bytes; gives its hash, by which `bundle` finds it again. bundle: its content, for a view of its sets."""
        name = bundles.identity(data)
        self._write(f"bundles/{name}.bundle", data)
        if bundle is not None and bundle.sets:
            self._write(f"bundles/{name}.sets", set_view.written(bundle))
        return name

    def keep_index(self, name: str, data: bytes) -> None:
        """What a later change of single rules has to know of a kept bundle."""
        self._write(f"bundles/{name}.index", data)

    def index(self, name: str) -> Path | None:
        """Where the index of a bundle is, None where there is none."""
        path = self.directory / "bundles" / f"{name}.index"
        return path if path.is_file() else None

    def keep_change(self, data: bytes) -> str:
        """Store a change's bytes, as `keep_bundle` stores a bundle's."""
        name = changes.identity(data)
        self._write(f"bundles/{name}.bundle", data)
        view = self._read(f"bundles/{changes.decode(data).base}.sets")
        if view is not None:  # a change of rules leaves the sets as they are
            self._write(f"bundles/{name}.sets", view)
        return name

    def change(self, name: str) -> Delta | None:
        """A kept change by its hash; None for a bundle that was compiled whole. Raises StateError."""
        path = self.directory / "bundles" / f"{name}.bundle"
        try:
            with path.open("rb") as file:
                head = file.read(len(changes.MAGIC))
                return changes.decode(head + file.read()) if head == changes.MAGIC else None
        except FileNotFoundError:
            return None
        except bundles.BundleError as error:
            raise StateError(f"change {name[:12]} in {self.directory}/bundles is damaged: {error}") from None
        except OSError as error:
            raise StateError(f"cannot read {path}: {error.strerror}") from None

    def base_of(self, name: str) -> str:
        """The bundle that was compiled whole: of a change the one that it changes. Raises StateError."""
        change = self.change(name)
        return change.base if change else name

    def bundle(self, name: str) -> Bundle:
        """A kept bundle by its hash, a change with the bundle that it changes. Raises StateError when a file is gone or damaged."""
        change = self.change(name)
        try:
            if change is not None:
                return changes.compose(self.bundle(change.base), change)
            data = self._whole(name)
            found = bundles.decode(data)
            if bundles.identity(data) != name:
                raise bundles.BundleError("it is another bundle than its name says")
            return found
        except bundles.BundleError as error:
            raise StateError(f"bundle {name[:12]} in {self.directory}/bundles is damaged: {error}") from None

    @contextmanager
    def bundle_file(self, name: str) -> Iterator[Path]:
        """An absolute path where a kept bundle can be read, a change with the bundle that it changes. Raises StateError."""
        if self.change(name) is None:
            yield (self.directory / "bundles" / f"{name}.bundle").absolute()
            return
        import tempfile

        with tempfile.NamedTemporaryFile(prefix=_half_written("change"), dir=self.directory / "bundles") as file:
            file.write(self.bundle_bytes(name))
            file.flush()
            yield Path(file.name).absolute()

    def bundle_bytes(self, name: str) -> bytes:
        """A kept bundle as a file that `apply` takes. Raises StateError when it is gone."""
        return bundles.encode(self.bundle(name)) if self.change(name) else self._whole(name)

    def _whole(self, name: str) -> bytes:
        data = self._read(f"bundles/{name}.bundle")
        if data is None:
            raise StateError(f"bundle {name[:12]} is no longer in {self.directory}/bundles; apply the policy anew")
        return data

    def _read(self, name: str) -> bytes | None:
        try:
            return (self.directory / name).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise StateError(f"cannot read {self.directory / name}: {error.strerror}") from None

    def _write(self, name: str, data: bytes) -> None:
        write_atomically(self.directory / name, data)


def installed_here(record: Record) -> Installed | None:
    """What is installed as the kernel can still have it: nothing of netc's outlives a reboot."""
    current = record.current
    return current if current is not None and current.boot == boot_id() else None


def installed_now(record: Record, bundle: str, policy: str, bindings: dict[str, str], command: str = "") -> Record:
    """The record after an apply: the next generation is current, what was current is the history's last."""
    generation = record.generation + 1
    current = Installed(generation, bundle, policy, bindings, int(time.time()), boot_id(), command, generation)
    return Record(generation, current, record.history + ((record.current,) if record.current else ()))


def removed_now(record: Record) -> Record:
    """The record after `netc remove`: nothing is installed; the history keeps what was."""
    return Record(record.generation + 1, None, record.history + ((record.current,) if record.current else ()))


def write_atomically(path: Path, data: bytes, mode: int = 0o600) -> None:
    """Replace a file so that a crash leaves the old content or the new, never a mixture; when this returns, the new is on disk. Raises StateError."""
    _replace(path, data, mode)
    if path.is_file():
        try:
            sync_directory(path.parent)
        except OSError as error:
            raise StateError(f"cannot write {path}: {error.strerror}") from None


def _replace(path: Path, data: bytes, mode: int) -> None:
    """The rename alone. What a process that is killed leaves of its new file, Store.sweep finds by its name."""
    try:
        if path.exists() and not path.is_file():  # a device or a pipe (-o /dev/null): renaming would put a file in its place
            path.write_bytes(data)
            return
        import tempfile  # half as long to import as all the rest of `netc set`; a command that writes nothing does without

        handle, temporary = tempfile.mkstemp(prefix=_half_written(path.name), dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:
        raise StateError(f"cannot write {path}: {error.strerror}") from None


_HALF_WRITTEN = re.compile(r"\..+\.(\d+)-(\d+)-\w+")


def _half_written(name: str) -> str:
    """How the name of a file begins that this process writes and has not finished."""
    own = processes.find(os.getpid())
    return f".{name}.{os.getpid()}-{own.started if own else 0}-"


def _is_alive(pid: int, started: int) -> bool:
    found = processes.find(pid)
    return found is not None and not found.gone and started in (found.started, 0)


def sync_directory(path: Path) -> None:
    """Make a rename or a removal in this directory durable."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _decode(text: bytes, kind: type[T], path: Path) -> T:
    try:
        return msgspec.json.decode(text, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        mend = "move the file away and apply the policy again; the device keeps what is installed until then"
        raise StateError(f"{path} is damaged: {error}\n  = help: {mend}") from None
