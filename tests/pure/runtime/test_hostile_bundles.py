"""Bundles that are cut, changed, too large, or say what no compiler says: a clear error, fast, and nothing more."""

from __future__ import annotations

import hashlib
import json
import random
import zlib

import pytest

from compiler import bundle as bundles
from compiler.bundle import MAGIC, BundleError
from runtime import admission, output
from runtime.commands import errors
from runtime.steps import StepError
from tests.pure.runtime.bundles import counter, small_bundle_bytes

LARGE = small_bundle_bytes(counters=tuple(counter(f"wan.in.r{random.Random(n).random():.9f}", "xdp", "rule", n) for n in range(3000)))


def packed(payload: bytes) -> bytes:
    """A file whose hash is right, whatever is in it."""
    return MAGIC + hashlib.sha256(payload).hexdigest().encode() + b"\n" + payload


def with_json(change: dict[str, object]) -> bytes:
    content = json.loads(zlib.decompress(small_bundle_bytes().partition(b"\n")[2]))
    return packed(zlib.compress(json.dumps({**content, **change}).encode()))


def test_the_large_one_is_whole() -> None:
    assert len(bundles.decode(LARGE).counters) == 3000 and len(LARGE) > 20 * 997


@pytest.mark.parametrize("length", range(0, len(LARGE), 997))
def test_truncated_at_every_997th_byte(length: int) -> None:
    with pytest.raises(BundleError):
        bundles.decode(LARGE[:length])


@pytest.mark.parametrize("seed", range(100))
def test_a_flipped_bit_anywhere(seed: int) -> None:
    rng = random.Random(seed)
    changed = bytearray(LARGE)
    changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    with pytest.raises(BundleError):
        bundles.decode(bytes(changed))


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not a netc bundle"), (b"\0" * 100_000, "not a netc bundle"), (MAGIC + b"\n", "hash"), (b"netc-bundle 2 x\n", "format 1"),
        (packed(b""), "cut"), (packed(b"not zlib"), "does not decompress"), (packed(zlib.compress(b"[" * 100_000)), "not as a bundle"),
        (packed(zlib.compress(bytes(8)) + b"more"), "longer than"), (packed(zlib.compress(b'{"policy": 1}')), "not as a bundle"),
        (with_json({"surprise": 1}), "surprise"), (with_json({"nics": [{"name": "wan", "device": "../../etc", "index": 0, "xdp": "native"}]}), "device"),
        (with_json({"nics": [{"name": "a\x1b[2Jb", "device": "wan0", "index": 0, "xdp": "native"}]}), "name"),
        (with_json({"nics": [{"name": "wan", "device": "wan0", "index": 99, "xdp": "native"}]}), "index"),
    ],
)  # fmt: skip
def test_what_no_compiler_writes(data: bytes, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        bundles.decode(data)


def test_a_bomb_is_not_inflated_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MAX_PAYLOAD", 1 << 20)
    with pytest.raises(BundleError, match="longer than a bundle may be"):
        bundles.decode(packed(zlib.compress(bytes(64 << 20))))


def test_a_file_that_is_too_large_is_not_looked_into(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundles, "MAX_FILE", 1000)
    with pytest.raises(BundleError, match="at most 1000"):
        bundles.decode(LARGE)


@pytest.mark.parametrize("text", ["\x1b]0;owned\x07", "a\rb", "a\nb", "\x9b2J", "\u202egnp", "\udcff"])
def test_nothing_printed_can_drive_a_terminal(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert output.printable(text).isprintable()
    assert all(line.isprintable() for line in output.table(["a"], [[text]]).split("\n"))
    errors.show(StepError("map " + text.replace("\n", ""), "refused"), as_json=False)
    assert capsys.readouterr().err.strip("\n").isprintable()


FLOW = {"nic": "wan", "family": 4, "proto": 6, "src": ["192.0.2.0", "192.0.2.9"], "dst": ["", ""], "sport": -1, "dport": 22, "icmp": -1, "flags": 2, "vlan": 0,
        "dscp": 0, "ttl": 64, "text": "tcp dport 22", "file": "p.netc", "line": 3}  # fmt: skip


def test_a_protected_flow_is_taken() -> None:
    admission.check(bundles.decode(with_json({"protected": [FLOW]})))


@pytest.mark.parametrize("change", [{"family": 5}, {"proto": 256}, {"dport": 65536}, {"ttl": 0}, {"src": ["192.0.2.0"]}, {"surprise": 1}, {"sport": "x"}], ids=str)
def test_a_protected_flow_that_is_none(change: dict[str, object]) -> None:
    with pytest.raises(BundleError):
        bundles.decode(with_json({"protected": [{**FLOW, **change}]}))


@pytest.mark.parametrize(
    "flows",
    [[{**FLOW, "nic": "lan"}], [{**FLOW, "vlan": 4095}], [{**FLOW, "src": ["192.0.2.9", "192.0.2.0"]}], [{**FLOW, "src": ["192.0.2.0", ""]}],
     [{**FLOW, "dst": ["2001:db8::", "2001:db8::1"]}], [{**FLOW, "dst": ["fe80::1%wan0", "fe80::1%wan0"], "src": ["", ""], "family": 6}], [{**FLOW, "text": "x" * 5000}],
     [FLOW] * 65],
)  # fmt: skip
def test_a_protected_flow_that_no_compiler_writes(flows: list[dict[str, object]]) -> None:
    with pytest.raises(StepError, match="compile the policy again"):
        admission.check(bundles.decode(with_json({"protected": flows})))
