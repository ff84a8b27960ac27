"""What of others stood beside the policy when it was applied, and what has come since: that judges packets without anybody having been told.

`<state>/beside.json`: by what runtime.foreign knows each thing again. An apply accepts what is there, and remembers it until netc is removed:
what others start after netc at every boot (docker's tables) is not news.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from pathlib import Path

import msgspec

from compiler.bundle import Bundle
from runtime import foreign
from runtime.backends import nft
from runtime.backends.nft import NftError
from runtime.context import Context
from runtime.journal import Journal
from runtime.state import write_atomically
from runtime.steps import StepError

_FILE = "beside.json"
_MOMENTARY = re.compile(r"netc-(?:fence|probe|boot|closed-\d+)")


def remember(context: Context, bundle: Bundle | None) -> None:
    """What is beside this policy now is accepted; with None nothing is any more. Raises StateError."""
    if bundle is None:
        (context.state / _FILE).unlink(missing_ok=True)
        return
    known = _known(context.state)
    now = known | {item.key for item in foreign.survey(context, bundle)}
    if now != known:
        write_atomically(context.state / _FILE, msgspec.json.encode(sorted(now)))


def came_since(context: Context, bundle: Bundle) -> Iterator[StepError]:
    """Each as a refusal: where, what it is, what to do."""
    known = _known(context.state)
    for item in foreign.survey(context, bundle):
        if item.key not in known:
            first, _, mend = item.words.partition("\n")
            yield StepError(item.where, f"{first}; it came after the policy was applied", mend or "take it away, or apply again: then it is accepted beside the policy")
    for family, name in _left_over(context):
        yield StepError(f"{family} {name}", "is a table that netc has for a moment of an apply, and no apply is under way", f"nft delete table {family} {name}")


def _left_over(context: Context) -> Collection[tuple[str, str]]:
    """Tables of netc's that should be gone. The journal is asked before and after: an apply may begin or end meanwhile."""
    journal = Journal(context.state)
    if journal.path.exists():
        return []
    try:
        found = sorted(place for place in nft.tables() if _MOMENTARY.fullmatch(place[1]))
    except NftError:
        return []
    return [] if journal.path.exists() else found


def _known(state: Path) -> set[str]:
    """Nothing where the file cannot be read: then all of others' is news, and an apply makes the file anew."""
    try:
        return set(msgspec.json.decode((state / _FILE).read_bytes(), type=list[str]))
    except (OSError, msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return set()
