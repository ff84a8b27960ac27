"""Bundle files that were cut or changed anywhere: a BundleError, always; no other exception and no bundle."""

from __future__ import annotations

import random
import zlib

import pytest

from compiler import bundle as bundles
from compiler.bundle import BundleError
from tests.fuzz.mutations import SMALL, bundle_bytes, content, sealed, sealed_text


def test_the_seal_is_the_bundles_own() -> None:
    """What the other tests build lies only where they say: sealed again, an unchanged bundle is read as it was."""
    whole = bundle_bytes("edge")
    assert bundles.decode(sealed(content(whole))) == bundles.decode(whole)


def refused(data: bytes) -> None:
    with pytest.raises(BundleError) as caught:
        bundles.decode(data)
    assert str(caught.value) and len(str(caught.value)) < 2000


@pytest.mark.parametrize("name", SMALL)
def test_cut_anywhere(name: str) -> None:
    whole = bundle_bytes(name)
    head = len(bundles.MAGIC) + 65
    for length in {*range(head + 40), *range(head, len(whole), 97), *range(len(whole) - 40, len(whole))}:
        refused(whole[:length])


@pytest.mark.parametrize("name", SMALL)
def test_a_bit_flipped_anywhere(name: str) -> None:
    whole, rng = bundle_bytes(name), random.Random(name)
    for at in {*range(120), *(rng.randrange(len(whole)) for _ in range(400))}:
        refused(whole[:at] + bytes([whole[at] ^ 1 << rng.randrange(8)]) + whole[at + 1 :])


def test_more_at_the_end() -> None:
    whole = bundle_bytes("edge")
    refused(whole + b"\0")
    payload = whole.partition(b"\n")[2]
    refused(whole + payload)


@pytest.mark.parametrize("seed", range(4))
def test_a_right_hash_over_bytes_that_are_no_bundle(seed: int) -> None:
    import hashlib

    rng = random.Random(seed)
    payload = bundle_bytes("edge").partition(b"\n")[2]
    text = zlib.decompress(payload)
    for _ in range(100):
        at = rng.randrange(len(payload))
        broken = rng.choice((payload[:at], payload[:at] + rng.randbytes(3) + payload[at + 3 :], rng.randbytes(60), b"", payload + b"x"))
        if broken != payload:
            refused(bundles.MAGIC + hashlib.sha256(broken).hexdigest().encode() + b"\n" + broken)
        refused(sealed_text(text[: rng.randrange(len(text))]))


@pytest.mark.parametrize("text", [b"", b"null", b"[]", b"{}", b"7", b'"x"', b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe", b"{" + b" " * (1 << 24)],
                         ids=lambda text: repr(text[:8]))  # fmt: skip
def test_json_that_is_no_bundle(text: bytes) -> None:
    refused(sealed_text(text))


def test_a_bomb_is_not_unpacked() -> None:
    """640 MiB of blanks pack to less than one: reading stops at the limit."""
    packer = zlib.compressobj(9)
    payload = b"".join([packer.compress(b" " * (1 << 24)) for _ in range(40)]) + packer.flush()
    import hashlib

    refused(bundles.MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload)
