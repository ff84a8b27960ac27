"""What a bundle keeps of its policy, so that it can be compiled again with other members in a fixed set (`netc set`), and that compilation's Sources.

Members that came from files, or that were changed by hand, are taken from the bundle; everything else is read from the kept texts again, and
proved again. Nothing is read from disk.
"""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path

import msgspec

from compiler.bundle import Bundle, Source, StaticSet
from compiler.findings import LiteralError
from compiler.ir import V4_BASE, Ranges
from compiler.profile import Profile
from compiler.ranges import normalize
from compiler.setfile import MAX_POLICY_FILE
from compiler.source import Sources
from compiler.tables import members as codec

_LEVEL = 1  # of zlib: a fifth of the time of the usual 6, for a fifth more bytes
AGAIN = "apply the policy again: netc apply POLICY"


class KeptError(Exception):
    """A bundle that cannot be compiled again. The text says what to do."""


class KeptSources(Sources):
    """The texts in a bundle, as a compilation reads them; `shown` gets them too, to draw findings. Raises KeptError for a bundle without any."""

    def __init__(self, bundle: Bundle, shown: Sources) -> None:
        super().__init__()
        self._shown = shown
        if not bundle.sources:
            raise KeptError(f"the installed bundle does not hold its policy's text: an earlier netc compiled it\n  = help: {AGAIN}")
        self.policy = Path(bundle.sources[0].name)
        self.by_hand = frozenset(item.name for item in bundle.static if item.by_hand)
        self._kept = {source.name: source.text for source in bundle.sources}
        self._sets = {item.name: item for item in bundle.static}

    def add(self, file: str, text: str) -> None:
        super().add(file, text)
        self._shown.add(file, text)

    def kept(self, name: str) -> str:
        """Raises LiteralError (N001)."""
        try:
            inflater = zlib.decompressobj()
            text = inflater.decompress(self._kept[name], MAX_POLICY_FILE)
            if inflater.eof:
                return text.decode()
        except (KeyError, zlib.error, UnicodeDecodeError):
            pass
        raise LiteralError("N001", f"the installed bundle does not hold the text of `{name}`", AGAIN)

    def members(self, name: str, from_file: bool) -> tuple[str, Ranges] | None:
        """Raises KeptError where only the file would have them."""
        item = self._sets.get(name)
        if item is None and from_file:
            raise KeptError(f"the installed bundle does not hold the members of `{name}`\n  = help: {AGAIN}")
        return (item.type, ranges(item)) if item and (from_file or item.by_hand) else None

    def digest(self) -> str:
        """Also over what the sets hold: the texts alone no longer say it."""
        whole = hashlib.sha256(super().digest().encode())
        for item in self._sets.values():
            whole.update(hashlib.sha256(item.ranges).digest())
        return whole.hexdigest()


def ranges(item: StaticSet) -> Ranges:
    """A set's members as the compiler has them: ports as they are, ranges that touch as one."""
    base = 0 if item.type == "address" else V4_BASE
    return normalize((low - base, high - base) for low, high in codec.decode(item.ranges))


def encoded(kind: str, found: Ranges) -> bytes:
    """Members of that type as a bundle has them: a port counts as an IPv4 address, which takes 8 bytes a range."""
    return codec.encode(found if kind == "address" else ((V4_BASE + low, V4_BASE + high) for low, high in found))


def packed(sources: Sources) -> tuple[Source, ...]:
    """What a bundle keeps of a compilation's texts."""
    return tuple(Source(name, zlib.compress(text.encode(), _LEVEL)) for name, text in sources.texts().items())


def packed_profile(profile: Profile) -> str:
    """Without `facts`, which are for people: they describe the machine that was probed."""
    return msgspec.json.encode(msgspec.structs.replace(profile, facts={}), order="deterministic").decode()


def profile_of(bundle: Bundle) -> Profile:
    """The profile that the bundle was compiled with. Raises KeptError."""
    try:
        return msgspec.json.decode(bundle.profile, type=Profile)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise KeptError(f"the installed bundle does not hold its capability profile: {error}\n  = help: {AGAIN}") from None
