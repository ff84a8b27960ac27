"""Saved plans: the file is whole or refused, and what moved on the host since is named."""

from __future__ import annotations

import hashlib
import random

import msgspec
import pytest

from compiler import bundle as bundles
from runtime import live, plan_file, state
from runtime.live import Live, SeenDevice
from runtime.plan_file import PlanFileError, Saved
from runtime.state import Installed, Record
from tests.pure.runtime.bundles import small_bundle_bytes

THEN = Live(
    boot="b", sequence=3, installed="c" * 64, devices={"wan": SeenDevice("wan0", 5, "02:00", "veth", 77)}, links={"wan-xdp": 77},
    nft={"inet netc": "1"}, tc={"wan0": "2"}, settings={"wan0 ring rx": "512"}, drift=(), steps=("load",),
)  # fmt: skip
BUNDLE = small_bundle_bytes()
SAVED = Saved("0.1.0", 1_700_000_000, "p.netc", "", {"wan": "wan0"}, False, THEN, bundles.identity(BUNDLE))
RECORD = Record(4, Installed(4, "d" * 64, "q.netc", {"wan": "wan0"}, 1, "b", "set", 4))


def sealed(rest: bytes) -> bytes:
    return plan_file.MAGIC + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


def test_what_was_saved_is_read_and_the_same_plan_gives_the_same_bytes() -> None:
    data = plan_file.encode(SAVED, BUNDLE)
    assert plan_file.decode(data) == (SAVED, BUNDLE) and plan_file.encode(SAVED, BUNDLE) == data


def test_cut_or_changed_anywhere() -> None:
    data, rng = plan_file.encode(SAVED, BUNDLE), random.Random(1)
    for length in range(len(data)):
        with pytest.raises(PlanFileError, match="netc plan"):
            plan_file.decode(data[:length])
    for at in range(len(data)):
        with pytest.raises(PlanFileError):
            plan_file.decode(data[:at] + bytes([data[at] ^ 1 << rng.randrange(8)]) + data[at + 1 :])
    with pytest.raises(PlanFileError, match="hash"):
        plan_file.decode(data + b"\0")


def test_another_format_is_named() -> None:
    with pytest.raises(PlanFileError, match="its format is 2, and this netc reads format 1"):
        plan_file.decode(plan_file.encode(SAVED, BUNDLE).replace(b"netc-plan 1 ", b"netc-plan 2 ", 1))
    with pytest.raises(PlanFileError, match="not a saved plan"):
        plan_file.decode(BUNDLE)


@pytest.mark.parametrize("seed", range(3))
def test_a_right_hash_over_other_content(seed: int) -> None:
    """What a liar would write: any JSON, any bundle behind it."""
    rng, whole = random.Random(seed), msgspec.to_builtins(SAVED)
    for _ in range(150):
        changed = msgspec.json.decode(msgspec.json.encode(whole))
        holder = rng.choice((changed, changed["live"], changed["live"]["devices"]["wan"], changed["bindings"]))
        key = rng.choice(list(holder))
        holder[key] = rng.choice((None, -1, 1 << 70, [], {"x": 1}, "x" * 200, "../etc", "a\nb", True, 1.5))
        if rng.random() < 0.3:
            holder["more"] = 1
        try:
            saved, _ = plan_file.decode(sealed(msgspec.json.encode(changed) + b"\n" + BUNDLE))
        except PlanFileError:
            continue
        assert all(len(device) < 16 and "/" not in device for device in saved.bindings.values())
    for rest in (b"", b"\n", b"null\n", b"[" * 100_000 + b"\n", b"{}\n" + BUNDLE, msgspec.json.encode(SAVED) + b"\n" + small_bundle_bytes("other.netc")):
        with pytest.raises(PlanFileError):
            plan_file.decode(sealed(rest))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"boot": "x"}, "rebooted"),
        ({"sequence": 4, "links": {"wan-xdp": 9}}, "number 3 was the last change then; netc set of q.netc (number 4) came since"),
        ({"devices": {"wan": SeenDevice("wan0", 9, "02:01", "veth", 77)}}, "wan0 is another device: then number 5, 02:00, veth; now number 9, 02:01, veth"),
        ({"devices": {"wan": SeenDevice("wan0", 5, "02:00", "veth", 78)}}, "wan0 ran XDP program 77, now 78"),
        ({"links": {"wan-xdp": 78}}, "the program that runs on hook wan-xdp was 77, is 78"),
        ({"links": {}}, "the program that runs on hook wan-xdp is gone"),
        ({"nft": {"inet netc": "9"}}, "nft table inet netc was changed"),
        ({"nft": {"inet netc": "1", "inet netc-fence": "5"}}, "nft table inet netc-fence is new"),
        ({"tc": {"wan0": "9"}}, "shaping on wan0 was changed"),
        ({"settings": {"wan0 ring rx": "256"}}, "setting wan0 ring rx was 512, is 256"),
        ({"drift": ("nft: table: gone",)}, "changed outside netc: nft: table: gone"),
        ({"steps": ("load", "more")}, "it would take other steps now: more"),
    ],
)  # fmt: skip
def test_what_moved_is_named_and_nothing_else(change: dict[str, object], words: str) -> None:
    (told,) = live.moved(THEN, msgspec.structs.replace(THEN, **change), RECORD)
    assert words in told


def test_a_host_that_did_not_move_is_no_reason() -> None:
    assert live.moved(THEN, THEN, RECORD) == []
    live.require(THEN, lambda: THEN, RECORD, (ValueError,))
    with pytest.raises(live.MovedOnError, match="ring rx was 512"):
        live.require(THEN, lambda: msgspec.structs.replace(THEN, settings={"wan0 ring rx": "1"}), RECORD, (ValueError,))

    def refused() -> Live:
        raise ValueError("there is no device wan0\nhelp")

    with pytest.raises(live.MovedOnError, match="there is no device wan0\n  = help"):
        live.require(THEN, refused, RECORD, (ValueError,))
    assert state.installed_here(RECORD) is None, "a record of another boot"
