"""Members as people write them, for `netc set`: single addresses on the command line or one a line in a file, all wrong ones at once."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from compiler.tables import members
from compiler.tables.set_change import KEY

if TYPE_CHECKING:
    from runtime.set_view import AnyDynamicSet, AnySets

MAX_FILE = 64 << 20  # bytes, as the compiler reads of a set file
_SHOWN = 10  # wrong lines, members that were none
_SINGLE = "a dynamic set has single addresses as members: name them one by one, or put the prefix into a set of the policy"


class MembersError(Exception):
    """Words that cannot be members; nothing was changed. The text names each with its place."""


def key(word: str) -> bytes:
    """The key of an address; /32 and /128 are addresses too. Raises ValueError."""
    text, slash, length = word.partition("/")
    if "-" in word:
        raise ValueError(_SINGLE)
    packed = members.packed(text)
    if slash and length != str(8 * len(packed)):
        raise ValueError(_SINGLE)
    return KEY.pack(4 if len(packed) == 4 else 6, packed)


def written(key: bytes) -> str:
    """A key as an address."""
    return members.written(ordinal(key))


def ordinal(key: bytes) -> int:
    return members.ordinal(address(key))


def address(key: bytes) -> bytes:
    """The 4 or 16 bytes of an address."""
    family, padded = KEY.unpack(key)
    return bytes(padded[:4] if family == 4 else padded)


def of_range(type: str, low: int, high: int) -> list[str]:
    """A range of a set of that type as it is written: its prefixes, or the ports."""
    if type == "address":
        return list(members.words(low, high))
    low, high = low - members.V4_BASE, high - members.V4_BASE
    return [str(low) if low == high else f"{low}-{high}"]


def keys(words: Sequence[str], file: str) -> list[bytes]:
    """The keys of the words and of a file's lines ("": no file; "-": standard input), each once, in order. Raises MembersError."""
    found: dict[bytes, None] = {}
    wrong: list[str] = []
    for place, word in _all(words, file):
        try:
            found[key(word)] = None
        except ValueError as error:
            wrong.append(f"{place}: `{word}` is not an address\n  = help: {error}")
    if wrong:
        more = [f"{len(wrong) - _SHOWN} more are wrong"] if len(wrong) > _SHOWN else []
        raise MembersError("\n".join([*wrong[:_SHOWN], *more, "nothing was changed"]))
    return list(found)


def refuse_protected(bundle: AnySets, item: AnyDynamicSet, wanted: Sequence[bytes]) -> None:
    """Members of the sets behind `never` are not added by hand either. Raises MembersError."""
    for name in item.never:
        ranges = next(each.ranges for each in bundle.static if each.name == name)
        held = members.held(ranges, map(address, wanted))
        if held:
            more = f" and {len(held) - 1:,} more are" if len(held) > 1 else " is"
            raise MembersError(f"{members.written(members.ordinal(held[0]))}{more} in {name}, which {item.name} never takes (`never {name}`); nothing was changed\n"
                               "  = help: leave them out, or change the policy")  # fmt: skip


def show_absent(absent: Sequence[str]) -> None:
    """Members that were to leave and were none."""
    for word in absent[:_SHOWN]:
        print(f"  {word} was no member")
    if len(absent) > _SHOWN:
        print(f"  and {len(absent) - _SHOWN:,} more were none")


def _all(words: Sequence[str], file: str) -> Iterator[tuple[str, str]]:
    """(where it stands, member)."""
    yield from (("argument", word) for word in words)
    if file:
        name = "<stdin>" if file == "-" else file
        yield from ((f"{name}:{number}", word) for number, _, word in members.lines(_text(file)))


def _text(file: str) -> str:
    name = "<stdin>" if file == "-" else file
    data = sys.stdin.buffer.read(MAX_FILE + 1) if file == "-" else _read(Path(file))
    if len(data) > MAX_FILE:
        raise MembersError(f"{name} is larger than {MAX_FILE >> 20} MiB; split it")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise MembersError(f"{name}:{line}: this is not UTF-8 text; nothing was changed\n  = help: write one address a line") from None


def _read(path: Path) -> bytes:
    """Never waits on a pipe; standard input is for those."""
    handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(handle, "rb") as source:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise MembersError(f"{path} is not a regular file\n  = help: give a pipe as standard input: --file -")
        return source.read(MAX_FILE + 1)
