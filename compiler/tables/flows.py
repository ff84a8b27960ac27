"""What the compiler's half of `netc bench` hands to the privileged half: programs, flows, and what must become of every flow.

One file: zlib-compressed JSON of one `Material`. Reading is strict, as for bundles.
"""

from __future__ import annotations

import zlib

import msgspec

from compiler.bundle import MAX_PAYLOAD, Bundle, BundleError, Model, Name, Nft

CHECK_TIME = 10**9  # ns: what the clock word says while flows are checked


class Outcome(Model, frozen=True):
    """What a flow meets: the counter's full name and its verdict (pass, drop, handed-on). index: the rule's, in order; -1 for none."""

    counter: Name
    verdict: str
    index: int


class Scenario(Model, frozen=True):
    """Flows of one kind. frames: `Material.length` bytes each, one behind the other; expected: an index into `Material.outcomes` each.

    distinct: how many different frames they are (a narrow rule has few).
    """

    name: str
    frames: bytes
    expected: tuple[int, ...]
    distinct: int


class PeerFilter(Model, frozen=True):
    """The same filter as another tool's lines; rules[i]: the rule that lines[i] is of. family: 4, 6, or 0 where there is no telling apart."""

    peer: str
    family: int
    lines: tuple[str, ...]
    rules: tuple[int, ...]


class Material(Model, frozen=True):
    """Everything to check and to measure one nic's XDP program.

    program: its name in the bundle, where the programs named bench.* stand beside it. slots: entries of the table of frames; stateful:
    limits, dynamic sets: flows are checked in order at CHECK_TIME with empty state. nft: the same filter for nftables.
    peers: and for other tools; refused: those that cannot say it, with the reason.
    """

    bundle: Bundle
    program: Name
    rules: int
    stateful: bool
    length: int
    slots: int
    outcomes: tuple[Outcome, ...]
    scenarios: tuple[Scenario, ...]
    checked_by: str
    notes: tuple[str, ...]
    nft: tuple[Nft, ...]
    peers: tuple[PeerFilter, ...] = ()
    refused: dict[str, str] = msgspec.field(default_factory=dict)


def encode(material: Material) -> bytes:
    return zlib.compress(msgspec.json.encode(material, order="deterministic"), 1)


def decode(data: bytes) -> Material:
    """Raises BundleError for what the compiler's half did not write."""
    inflater = zlib.decompressobj()
    try:
        text = inflater.decompress(data, MAX_PAYLOAD)
        return msgspec.json.decode(text, type=Material)
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(f"this is no material for a measurement: {error}") from None
