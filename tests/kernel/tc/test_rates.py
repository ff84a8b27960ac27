"""What a class is owed and what it may have at most: compared by bytes between classes, not by this machine's clock."""

from __future__ import annotations

import time

from runtime.lab import netns
from runtime.steps import tc as steps
from tests.kernel.tc.shaped import MBIT, NEAR, Attached, Pair, compiled, out_frame, packet_socket, port, rest, shape
from tests.kernel.tc.test_classes import install, wait_until_empty

PAYLOAD = 1358  # bytes: frames of 1400


def test_max_and_share_hold_between_classes(pair: Pair, attached: Attached) -> None:
    """While all of them have packets waiting: `max` caps one, and the others divide what is left as their shares say."""
    new = compiled(shape("out", 8 * MBIT, port("capped", 1, max=MBIT), port("three", 3, share=3), port("one", 2), rest()))
    install(pair, attached, new)
    with packet_socket(pair.near, NEAR) as raw:
        for _ in range(600):
            for number in (1, 2, 3):
                raw.send(out_frame_cached(number))
    sent = when_first_is_empty(pair, new, "three")
    capped, one, three = (sent[name] for name in ("capped", "one", "three"))
    assert 2.5 < three / one < 3.5, sent
    assert 0.08 < capped / (capped + one + three) < 0.18, sent  # 1 of 8 Mbit, and the bursts


def test_min_is_owed_and_urgent_goes_first(pair: Pair, attached: Attached) -> None:
    new = compiled(
        shape("out", 8 * MBIT, port("owed", 1, min=4 * MBIT, max=4 * MBIT), port("voice", 2, max=2 * MBIT, urgent=True), rest()),
    )
    install(pair, attached, new)
    with packet_socket(pair.near, NEAR) as raw:
        for _ in range(600):
            for number in (1, 2, 3):
                raw.send(out_frame_cached(number))
    sent = when_first_is_empty(pair, new, "owed")
    whole = sum(sent[name] for name in ("owed", "voice", "rest"))
    assert 0.42 < sent["owed"] / whole < 0.58, sent
    assert 0.18 < sent["voice"] / whole < 0.33, sent  # all of its 2 Mbit, before the rest


def test_the_whole_rate_is_never_exceeded(pair: Pair, attached: Attached) -> None:
    """Faster than 8 Mbit/s would be wrong on any machine; slower is only a busy one."""
    new = compiled(shape("out", 8 * MBIT, port("a", 1, min=4 * MBIT), rest(min=4 * MBIT)))
    install(pair, attached, new)
    begin = time.monotonic()
    with packet_socket(pair.near, NEAR) as raw:
        for _ in range(350):
            for number in (1, 2):
                raw.send(out_frame_cached(number))
    with netns.enter(pair.near):
        found = wait_until_empty(pair, new)
    elapsed = time.monotonic() - begin
    assert sum(found[f"wan.shape.out.{name}"]["packets"] for name in ("a", "rest")) == 700
    assert elapsed > 0.85 * 700 * 1400 * 8 / (8 * MBIT)


def when_first_is_empty(pair: Pair, new: object, name: str) -> dict[str, int]:
    """Bytes sent by every class at the moment at which `name` has nothing waiting any more."""
    with netns.enter(pair.near):
        while True:
            found = steps.read_counters(pair.context, new)  # type: ignore[arg-type]
            if not found[f"wan.shape.out.{name}"]["backlog"]:
                return {key.rpartition(".")[2]: item["bytes"] for key, item in found.items()}


_FRAMES: dict[int, bytes] = {}


def out_frame_cached(number: int) -> bytes:
    """scapy builds 3,000 frames a second; the same one serves."""
    return _FRAMES.setdefault(number, out_frame(number, PAYLOAD))
