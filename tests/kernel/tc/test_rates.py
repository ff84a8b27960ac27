"""What a class is owed and what it may have at most: compared by bytes between classes, not by this machine's clock."""

from __future__ import annotations

import time
from contextlib import suppress

from compiler import bundle
from runtime.lab import netns
from runtime.steps import tc as steps
from tests.kernel.tc.shaped import MBIT, NEAR, Attached, Pair, compiled, out_frame, packet_socket, port, rest, shape
from tests.kernel.tc.test_classes import install, wait_until_empty

PAYLOAD = 1358  # bytes: frames of 1400


def test_max_and_share_hold_between_classes(pair: Pair, attached: Attached) -> None:
    """While all of them have packets waiting: `max` caps one, and the others divide what is left as their shares say."""
    new = compiled(shape("out", 2 * MBIT, port("capped", 1, max=MBIT // 4), port("three", 3, share=3), port("one", 2), rest()))
    install(pair, attached, new)
    capped, one, three = sent_under_load(pair, new, {"capped": 1, "one": 2, "three": 3})
    assert 2.5 < three / one < 3.5
    assert 0.1 < capped / (capped + one + three) < 0.15  # an eighth


def test_min_is_owed_and_urgent_goes_first(pair: Pair, attached: Attached) -> None:
    new = compiled(
        shape("out", 2 * MBIT, port("owed", 1, min=MBIT, max=MBIT), port("voice", 2, max=MBIT // 2, urgent=True), rest()),
    )
    install(pair, attached, new)
    owed, voice, others = sent_under_load(pair, new, {"owed": 1, "voice": 2, "rest": 3})
    whole = owed + voice + others
    assert 0.45 < owed / whole < 0.55
    assert 0.22 < voice / whole < 0.28  # all of its max, before the rest


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


def sent_under_load(pair: Pair, new: bundle.Bundle, ports: dict[str, int]) -> list[int]:
    """Bytes that each class sent between two moments, with packets waiting in every one of them all the while.

    Where a busy machine let a queue run empty, the measurement begins anew.
    """
    with packet_socket(pair.near, NEAR) as raw, netns.enter(pair.near):
        begin: dict[str, int] | None = None
        while True:
            for number in ports.values():
                with suppress(OSError):  # a full queue refuses: it is full, as it should be
                    for _ in range(2000):
                        raw.send(out_frame_cached(number))
            found = steps.read_counters(pair.context, new)
            now = {name: found[f"wan.shape.out.{name}"]["bytes"] for name in ports}
            if not all(found[f"wan.shape.out.{name}"]["backlog"] for name in ports):
                begin = None
            elif begin is None:
                begin = now
            elif sum(now.values()) - sum(begin.values()) > 400_000:
                return [now[name] - begin[name] for name in ports]


_FRAMES: dict[int, bytes] = {}


def out_frame_cached(number: int) -> bytes:
    """scapy builds 3,000 frames a second; the same one serves."""
    return _FRAMES.setdefault(number, out_frame(number, PAYLOAD))
