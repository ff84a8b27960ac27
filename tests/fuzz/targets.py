"""What is fuzzed: everything that netc reads. A target takes bytes, and either they are what it reads or they are refused in words."""

from __future__ import annotations

import functools
import hashlib
import os
import random
import tempfile
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from compiler import bundle as bundles
from compiler import profile
from compiler.bundle import BundleError
from compiler.diagnostics import CompileError
from compiler.import_classbench import ImportFailed
from compiler.source import Sources
from compiler.tables import changes
from compiler.tables.capture import CaptureError
from runtime import plan_file
from runtime.binding import BindingError
from runtime.commands.errors import describe
from runtime.lab.packets import PacketsError
from runtime.plan_file import PlanFileError
from runtime.set_words import MembersError
from runtime.state import StateError
from runtime.steps import StepError
from tests.fuzz import mutations
from tests.fuzz.mutations import ROOT

Mutator = Callable[[bytes, random.Random], bytes]


@dataclass(frozen=True, slots=True)
class Target:
    """read: raises one of `refusals` or nothing. seeds: what is mutated first. mutate: a change that knows the format; None: bytes alone."""

    read: Callable[[bytes], object]
    refusals: tuple[type[Exception], ...]
    seeds: Callable[[], list[bytes]]
    mutate: Mutator | None = None


def run(target: Target, data: bytes) -> bool:
    """Was it taken? Raises what is no refusal, and AssertionError for a refusal without words."""
    try:
        target.read(data)
    except target.refusals as error:
        words = describe(error)
        assert words and "this is a bug in netc" not in words, words
        if isinstance(error, CompileError):
            _drawn(error)
        return False
    return True


def _drawn(error: CompileError) -> None:
    assert error.diagnostics
    for diagnostic in error.diagnostics:
        drawn = diagnostic.draw(Sources())
        assert all(c.isprintable() or c == "\n" for c in drawn), drawn


@functools.cache
def _folder() -> Path:
    """A directory of this process: some things are read from files."""
    return Path(tempfile.mkdtemp(prefix="netc-fuzz-"))


def _file(data: bytes, name: str) -> Path:
    path = _folder() / f"{os.getpid()}-{name}"
    path.write_bytes(data)
    return path


def _policy(data: bytes) -> None:
    from tests.fuzz.test_policies import compiled

    compiled(_file(data, "p.netc"), Sources())


def _bundle(data: bytes) -> None:
    from runtime.apply import admitted

    admitted(data)


def _plan(data: bytes) -> None:
    from tests.fuzz import test_plan_content as plans

    if plans.taken(_file(data, "x.plan"), data) is None:
        raise PlanFileError("it does not begin as a netc plan does")


@functools.cache
def _large() -> bundles.Bundle:
    """A policy whose rules can change in place."""
    from tests.crash import policies

    return bundles.decode(policies.bundle("large"))


def _change(data: bytes) -> None:
    changes.compose(_large(), changes.decode(data))


def _state(data: bytes) -> None:
    """One of the files of a state directory, which the first byte chooses, and every reader of it."""
    from runtime import trial
    from runtime.journal import Journal
    from runtime.state import Store
    from runtime.steps import nft_record, tc_drops
    from runtime.steps.saved_settings import SavedSettings

    readers: tuple[tuple[str, Callable[[Store], object]], ...] = (
        ("state.json", Store.record), ("slots.json", Store.slots), ("journal.jsonl", lambda store: Journal(store.directory).unfinished()),
        ("journal.jsonl", trial.running), ("settings.json", lambda store: SavedSettings(store.directory).all()),
        ("nft.json", lambda store: nft_record.load(store.directory)), ("tc-drops.json", lambda store: tc_drops.kept(store.directory)),
    )  # fmt: skip
    name, read = readers[(data[0] if data else 0) % len(readers)]
    path = _file(data[1:], name)
    directory = _folder() / f"{os.getpid()}-state"
    directory.mkdir(exist_ok=True)
    for old in directory.iterdir():
        old.unlink()
    path.rename(directory / name)
    read(Store(directory))


def _packets(data: bytes) -> None:
    from runtime.lab import packets

    packets.read(_file(data, "p.packets"))


def _import(data: bytes) -> None:
    from compiler import import_classbench

    import_classbench.policy(import_classbench.read(_file(data, "filters")), "filters")


def _capture(data: bytes) -> None:
    from compiler.tables import capture

    for _ in capture.on_the_clock(capture.read(_file(data, "capture"))):
        pass


def _profile(data: bytes) -> None:
    profile.load(_file(data, "profile.yaml"))


def _members(data: bytes) -> None:
    from runtime import set_words

    set_words.keys([], str(_file(data, "members")))


def _files(*patterns: str) -> Callable[[], list[bytes]]:
    return lambda: [path.read_bytes() for pattern in patterns for path in sorted(ROOT.glob(pattern)) if path.stat().st_size < 1 << 16]


def _mutate_policy(data: bytes, rng: random.Random) -> bytes:
    text = data.decode("utf-8", "replace")
    return mutations.mutated_policy(text or rng.choice(mutations.policy_texts()), rng).encode("utf-8", "surrogatepass")


def _mutate_bundle(data: bytes, rng: random.Random) -> bytes:
    """What a liar would write: other content under a right hash."""
    try:
        return mutations.sealed(mutations.mutated_bundle(mutations.content(data), rng))
    except (ValueError, TypeError, IndexError, zlib.error):  # no such file any more
        return data


def _mutate_plan(data: bytes, rng: random.Random) -> bytes:
    """Another header, or another bundle, under right hashes."""
    try:
        header, _, bundle = data.partition(b"\n")[2].partition(b"\n")
        said = msgspec.json.decode(header)
        if rng.random() < 0.5:
            said = mutations.mutated_bundle(said, rng)
        else:
            bundle = _mutate_bundle(bundle, rng)
            said["bundle"] = bundles.identity(bundle)
        rest = msgspec.json.encode(said) + b"\n" + bundle
    except (ValueError, TypeError, IndexError, BundleError):  # no such file any more
        return data
    return plan_file.MAGIC + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


def _mutate_change(data: bytes, rng: random.Random) -> bytes:
    try:
        payload = msgspec.json.encode(mutations.mutated_bundle(msgspec.json.decode(data.partition(b"\n")[2]), rng))
    except (ValueError, IndexError, TypeError):  # no such file any more
        return data
    return changes.MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


def _mutate_json(data: bytes, rng: random.Random) -> bytes:
    """One line of a state directory's file, behind the byte that chooses it."""
    try:
        lines = data[1:].splitlines() or [b"{}"]
        at = rng.randrange(len(lines))
        lines[at] = msgspec.json.encode(mutations.mutated_bundle(msgspec.json.decode(lines[at]), rng))
        return data[:1] + b"\n".join(lines) + b"\n"
    except (ValueError, IndexError, TypeError, AttributeError):
        return data


def _bundle_seeds() -> list[bytes]:
    return [mutations.bundle_bytes(name) for name in mutations.SMALL[:2]]


def _plan_seeds() -> list[bytes]:
    from tests.fuzz.test_plan_content import plan_of

    return [plan_of(data) for data in _bundle_seeds()]


def _change_seeds() -> list[bytes]:
    """A change as netc wrote it, of the bundle that it is composed with here."""
    return [_fitted(data) for data in _files("tests/fuzz/corpus/change/*")()]


def _fitted(data: bytes) -> bytes:
    content = next(item for item in _large().maps if item.role == "changes").entries
    return changes.encode(msgspec.structs.replace(changes.decode(data), half=bytes(int.from_bytes(content[8:12], "little"))))


TARGETS = {
    "policy": Target(_policy, (CompileError,), _files("policies/*.netc", "tests/pure/bad_policies/*.netc"), _mutate_policy),
    "bundle": Target(_bundle, (BundleError, StepError), _bundle_seeds, _mutate_bundle),
    "plan": Target(_plan, (PlanFileError, BindingError, BundleError, StepError), _plan_seeds, _mutate_plan),
    "change": Target(_change, (BundleError,), _change_seeds, _mutate_change),
    "state": Target(_state, (StateError, StepError), _files("tests/fuzz/corpus/state/*"), _mutate_json),
    "packets": Target(_packets, (PacketsError,), _files("policies/*.packets")),
    "import": Target(_import, (ImportFailed,), _files("tests/fuzz/corpus/import/*")),
    "capture": Target(_capture, (CaptureError,), _files("tests/fuzz/corpus/capture/*")),
    "profile": Target(_profile, (CompileError,), _files("compiler/profiles/*.yaml")),
    "members": Target(_members, (MembersError,), _files("policies/sets/*.txt")),
}
