"""One apply after another: nothing is lost, nothing is left, and what failed leaves the device as it was."""

from __future__ import annotations

import errno
import socket
import subprocess
import threading

import pytest

from compiler import bundle, ir
from runtime.backends import tc_options
from runtime.backends.tc import Tc
from runtime.lab import netns
from runtime.steps import StepError
from runtime.steps import tc as steps
from tests.kernel.tc.shaped import (
    FAR,
    FAR_IP,
    MBIT,
    NEAR,
    NEAR_IP,
    Attached,
    Pair,
    compiled,
    frame,
    out_frame,
    packet_socket,
    port,
    rest,
    run,
    shape,
    udp_socket,
)
from tests.kernel.tc.test_classes import install

A = ("a", port("x", 9, min=MBIT), rest())
B = ("b", port("y", 10, min=2 * MBIT), port("z", 9, max=50 * MBIT), rest(share=2))


def policy(direction: str, letter: tuple[object, ...], rate: int) -> bundle.Bundle:
    return compiled(shape(direction, rate, *letter[1:]))  # type: ignore[arg-type]


@pytest.mark.parametrize("direction", ["out", "in"])
def test_swap_under_traffic_loses_nothing(pair: Pair, attached: Attached, direction: str) -> None:
    """Eight swaps between two policies while a sender goes on: every packet arrives, and the classes of one generation are left."""
    first, second = policy(direction, A, 200 * MBIT), policy(direction, B, 100 * MBIT)
    install(pair, attached, first, 1)
    outwards = direction == "out"
    sender, device, packet = (pair.near, NEAR, out_frame(9)) if outwards else (pair.far, FAR, frame(9))
    receiver, address = (pair.far, FAR_IP) if outwards else (pair.near, NEAR_IP)
    stop, sent = threading.Event(), [0]
    with udp_socket(receiver, (address, 9)) as sink, packet_socket(sender, device) as raw:
        thread = threading.Thread(target=send_until, args=(raw, packet, stop, sent))
        thread.start()
        try:
            for generation in range(2, 10):
                new, old = (second, first) if generation % 2 == 0 else (first, second)
                install(pair, attached, new, generation, old)
        finally:
            stop.set()
            thread.join()
        for _ in range(sent[0]):
            sink.recv(2000)
    assert sent[0] > 1000
    assert attached.counters()[f"wan.shape.{direction}.seen"][0] == sent[0]
    with netns.enter(pair.near), Tc() as tc:
        name = NEAR if outwards else f"netc-ifb{pair.ifindex}"
        found = tc.device(name)
        assert found is not None and {classid >> 12 & 0xF for classid in tc.classes(found.ifindex)} == {0, 9 % 7 + 1}


def send_until(raw: object, packet: bytes, stop: threading.Event, sent: list[int]) -> None:
    """A sender slower than the shape, so that no queue of it is ever full."""
    while not stop.wait(0.0005):
        for _ in range(10):
            raw.send(packet)  # type: ignore[attr-defined]
            sent[0] += 1


@pytest.mark.parametrize("direction", ["out", "in"])
def test_undo_leaves_the_device_as_it_was(pair: Pair, direction: str) -> None:
    """From nothing, and from another policy: after the undo `tc` and `ip` show what they showed before."""
    first, second = policy(direction, A, 200 * MBIT), policy(direction, B, 100 * MBIT)
    with netns.enter(pair.near):
        bare = shown(pair)
        undo_again(pair, first, None, 1)
        assert shown(pair) == bare
        run(steps.steps(pair.context, first, None, 1), "stage", "flip", "clean")
        installed = shown(pair)
        assert installed != bare
        undo_again(pair, second, first, 2)
        assert shown(pair) == installed
        for step in steps.steps(pair.context, None, first, 3):
            step.do()
        assert shown(pair) == bare


def undo_again(pair: Pair, new: bundle.Bundle, old: bundle.Bundle | None, generation: int) -> None:
    made = steps.steps(pair.context, new, old, generation)
    run(made, "stage", "flip")
    for step in reversed([step for step in made if step.phase != "clean"]):
        step.undo()
        step.undo()  # a second one, as after a crash in the middle of the first, changes nothing


def shown(pair: Pair) -> str:
    """Devices, qdiscs and classes as iproute2 shows them, without statistics and carrier states."""
    enter = ["nsenter", f"--net=/run/netns/{pair.near}"]
    found = [subprocess.run([*enter, *c.split()], capture_output=True, text=True, check=True).stdout for c in ("ip -br link", "tc qdisc show")]
    classes = subprocess.run([*enter, "tc", "class", "show", "dev", NEAR], capture_output=True, text=True, check=True).stdout
    return "\n".join([*found, *sorted(classes.splitlines())])


@pytest.mark.parametrize("command", ["tc qdisc add dev w0 root handle 1: htb default 2", "tc qdisc add dev w0 root pfifo limit 5"])
def test_a_foreign_root_is_refused_and_stays(pair: Pair, command: str) -> None:
    new = policy("out", A, 100 * MBIT)
    with netns.enter(pair.near):
        planned = steps.steps(pair.context, new, None, 1)
        subprocess.run(command.split(), check=True)
        before = shown(pair)
        with pytest.raises(StepError, match=r"somebody else's: (htb|pfifo).*\n.*tc qdisc del dev w0 root"):
            steps.steps(pair.context, new, None, 1)
        for step in planned:  # it came between the plan and the apply
            if step.phase == "flip":
                with pytest.raises(StepError, match="somebody else's"):
                    step.do()
        assert shown(pair) == before


def test_a_foreign_ifb_is_refused(pair: Pair) -> None:
    with netns.enter(pair.near):
        subprocess.run(["ip", "link", "add", f"netc-ifb{pair.ifindex}", "type", "ifb"], check=True)
        made = steps.steps(pair.context, policy("in", A, 100 * MBIT), None, 1)
        with pytest.raises(StepError, match="somebody else's"):
            made[0].do()
        made[0].undo()
        assert f"netc-ifb{pair.ifindex}" in shown(pair)


def test_queues_take_the_first_that_the_kernel_has(pair: Pair) -> None:
    either = rest(queues=(ir.Queue("cake"), ir.Queue("bfifo", (("limit", 90_000),)), ir.Queue("pfifo")))
    with netns.enter(pair.near):
        made = steps.steps(pair.context, compiled(shape("out", 100 * MBIT, either)), None, 1)
        run(made, "stage", "flip")
        if "cake" not in lacking():
            pytest.skip("this kernel has cake")
        assert any("rest (bfifo)" in step.text for step in made)
        with Tc() as tc:
            found = next(qdisc for qdisc in tc.qdiscs(pair.ifindex) if qdisc.handle == 0x2010 << 16)
        assert (found.kind, tc_options.decode("bfifo", found.options)) == ("bfifo", {"limit": 90_000})


def lacking() -> set[str]:
    from runtime.backends import tc as backend

    return {kind for kind, words in backend.available(("cake", "fq_codel")).items() if words}


def test_a_queue_that_cannot_be_had(pair: Pair) -> None:
    """Required: an error with the kernel's words, before anything is done. Preferred: skipped and shown."""
    if not {"cake", "fq_codel"} <= lacking():
        pytest.skip("this kernel has cake or fq_codel")
    queues = (ir.Queue("cake"), ir.Queue("fq_codel"))
    with netns.enter(pair.near):
        bare = shown(pair)
        with pytest.raises(StepError, match=r"queue cake or fq_codel: cake: .*unknown.*\n.*or pfifo"):
            steps.steps(pair.context, compiled(shape("out", 100 * MBIT, rest(queues=queues))), None, 1)
        assert shown(pair) == bare
        made = steps.steps(pair.context, compiled(shape("out", 100 * MBIT, rest(queues=queues, prefer_queue=True))), None, 1)
        assert [words for step in made for words in getattr(step, "skipped", ())] == [
            ("queue cake or fq_codel", "Specified qdisc kind is unknown; Specified qdisc kind is unknown")
        ]
        run(made, "stage", "flip")


def test_a_change_behind_our_back_is_found(pair: Pair) -> None:
    new = policy("out", A, 100 * MBIT)
    with netns.enter(pair.near):
        made = steps.steps(pair.context, new, None, 1)
        run(made, "stage", "flip")
        subprocess.run(["tc", "class", "change", "dev", "w0", "parent", "1:1", "classid", "1:2010", "htb", "rate", "2mbit"], check=True)
        with pytest.raises(StepError, match=r"class wan.shape.out.x has rate 2000000 instead of 1000000"):
            for step in made:
                step.check()


def test_drops_survive_an_apply(pair: Pair, attached: Attached) -> None:
    slow = ir.Class("slow", ir.Within(ir.Field.DPORT, ((9, 9),)), max=80_000, queues=(ir.Queue("pfifo", (("limit", 3),)),))
    first, second = compiled(shape("out", 100 * MBIT, slow, rest())), compiled(shape("out", 90 * MBIT, slow, rest()))
    install(pair, attached, first, 1)
    with packet_socket(pair.near, NEAR) as raw:
        dropped = sum(was_dropped(raw, out_frame(9, 900)) for _ in range(60))
    with netns.enter(pair.near):
        assert steps.read_counters(pair.context, first)["wan.shape.out.slow"]["drops"] == dropped > 0
        assert attached.counters()["wan.shape.out.slow"][0] == 60
    install(pair, attached, second, 2, first)
    with netns.enter(pair.near):
        assert steps.read_counters(pair.context, second)["wan.shape.out.slow"]["drops"] == dropped


def was_dropped(raw: socket.socket, packet: bytes) -> bool:
    """A full queue's drop comes back to a packet socket as ENOBUFS."""
    try:
        raw.send(packet)
    except OSError as error:
        assert error.errno == errno.ENOBUFS
        return True
    return False
