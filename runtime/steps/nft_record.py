"""What the kernel held in netc's nft tables right after an apply, on disk as digests: what differs later was changed by somebody else.

`<state>/nft.json` (`Record`): by family, kind and name, kinds as in `runtime.backends.nft_netlink`, and `elements` for the sets' members.
Comparing with what was asked for would not do: the kernel merges matches and libnftables prints neither a table's flags nor a chain's device.
The record is written behind the flip, and again when an apply is taken back. Without it nothing can be judged: that is a difference, too.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from runtime.backends import nft_netlink as kernel
from runtime.backends.nft import Json, NftError
from runtime.state import StateError, write_atomically
from runtime.steps import StepError
from runtime.steps.nft_content import OWNER, TABLE

_FILE = "nft.json"
Prints = dict[str, kernel.Digests]  # kind → name → digests


class Record(msgspec.Struct, frozen=True):
    """generation: the kernel's count of changes when the record was made; while it stands, nothing has changed. tables: by family."""

    generation: int = 0
    tables: dict[str, Prints] = {}


def save(state: Path, tables: dict[str, set[str]]) -> None:
    """Record the tables as they are: family → its static sets. Raises StateError."""
    before = load(state).tables
    try:
        number = kernel.generation()
        content = {family: _now(family, sets, before.get(family, {})) for family, sets in tables.items()}
    except (StepError, NftError) as error:  # the flip is done: a StepError would say that it is not
        raise StateError(str(error)) from None
    if content:
        write_atomically(state / _FILE, msgspec.json.encode(Record(number, content), order="deterministic"))
    else:
        (state / _FILE).unlink(missing_ok=True)


def remarked(state: Path) -> None:
    """The owner's mark alone was changed by netc; everything else has to be as it was recorded. Raises StateError, StepError."""
    record = load(state)
    for family, prints in record.tables.items():
        prints.setdefault("rule", {})[OWNER] = _of(_now(family, set(), {}), "rule", OWNER)
    if record.tables:
        write_atomically(state / _FILE, msgspec.json.encode(record, order="deterministic"))


def load(state: Path) -> Record:
    """The record; an empty one when there is none that can be read."""
    try:
        return msgspec.json.decode((state / _FILE).read_bytes(), type=Record)
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Record()


def _now(family: str, sets: set[str], known: Prints) -> Prints:
    """What the kernel holds of one table; `sets`: those whose elements matter; `known`: elements of a set that is still the same one."""
    try:
        found = kernel.fingerprint(family, TABLE)
        there = {name for name in sets if name in found["set"]}
        kept = {name for name in there if _of(known, "set", name) == found["set"][name] and _of(known, "elements", name)}
        read = {name: [kernel.elements(family, TABLE, name)] for name in sorted(there - kept)}
        return {**found, "elements": {**read, **{name: _of(known, "elements", name) for name in kept}}}
    except NftError as error:
        raise StepError(f"table {family} {TABLE}", str(error)) from None


def changed(state: Path, family: str, sets: set[str], limits: set[str]) -> tuple[set[str], set[str]]:
    """Which of these sets and limits are no longer as netc made them: they have to be made anew. Raises StepError."""
    record = load(state)
    if not sets | limits or _is_untouched(record):
        return set(), set()
    before, present = record.tables.get(family, {}), _now(family, sets, {})
    stale = {name for name in sets for kind in ("set", "elements") if _of(before, kind, name) != _of(present, kind, name)}
    return stale, {name for name in limits if before and _of(before, "object", name) != _of(present, "object", name)}


def table_changed(state: Path, family: str) -> bool:
    """Was the table itself changed, as by `flags dormant`?"""
    record = load(state)
    return family in record.tables and _of(record.tables[family], "table", TABLE) != _of(_now(family, set(), {}), "table", TABLE)


def _is_untouched(record: Record) -> bool:
    try:
        return bool(record.tables) and record.generation == kernel.generation()
    except NftError:
        return False


def compare(state: Path, family: str, wanted: list[Json], found: list[Json]) -> None:
    """Raises StepError with the first object of the policy that is not as it was applied. The names are known to be there."""
    record = load(state)
    before = record.tables.get(family)
    if before is not None and _is_untouched(record):
        return
    items = [command["add"] for command in wanted]
    present = _now(family, {item["set"]["name"] for item in items if "set" in item}, {})
    place = f"table {family} {TABLE}"
    if before is None:
        raise StepError(place, f"there is no record of what was applied ({state / _FILE})", "apply again")
    if _of(before, "table", TABLE) != _of(present, "table", TABLE):
        raise StepError(place, "the table was changed by hand: made anew, or dormant", "apply again")
    for item in items:
        ((what, body),) = item.items()
        for kind, words in _CHANGES.get(what, ()):
            if _of(before, kind, body["name"]) != _of(present, kind, body["name"]):
                name = body["name"].rpartition("_")[0] if what == "set" else body["name"]  # without the content's hash
                raise StepError(f"{place}, {what} {name}", words, "apply again")
    _compare_rules(place, before.get("rule", {}), present["rule"], found)


_CHANGES = {
    "chain": (("chain", "its hook, device, priority or policy was changed by hand, or it was made anew"),),
    "set": (("elements", "its members are not the policy's: they were changed by hand"), ("set", "it was made anew by hand")),
    "counter": (("object", "it was made anew by hand: what it had counted is lost"),),
    "limit": (("object", "its rate or burst was changed by hand, or it was made anew"),),
}  # what the compiler adds → kinds of the record, and what a difference means


def _compare_rules(place: str, before: kernel.Digests, present: kernel.Digests, found: list[Json]) -> None:
    texts: dict[str, list[str]] = {}
    for item in found:
        if rule := item.get("rule"):
            texts.setdefault(rule["chain"], []).append(rule.get("comment", ""))
    for chain in sorted(texts):
        for text, was, is_now in zip(texts[chain], before.get(chain, []), present.get(chain, []), strict=False):
            if was != is_now:
                raise StepError(f"{place}, chain {chain}", f"the rule `{text}` was changed by hand", "apply again")


def _of(prints: Prints, kind: str, name: str) -> list[str]:
    return prints.get(kind, {}).get(name, [])
