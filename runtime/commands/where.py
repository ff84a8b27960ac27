"""where: which queue and which CPU packets come to, by the installed policy and by what the device says of its hash."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NamedTuple

from runtime.commands import target as targets

if TYPE_CHECKING:
    from compiler.bundle import Bundle
    from runtime.context import Context, Device
    from runtime.steering.cpu_promises import CpuPromises
    from runtime.steering.flows import Flow
    from runtime.steering.nic_promises import NicPromises, Promise

_NOT_TOLD = "not known"


class Answer(NamedTuple):
    """One line. what: queue, cpu; numbers: more than one where it cannot be told which of them; by: the policy's words, or whose choice it is."""

    what: str
    numbers: tuple[int, ...]
    by: str
    place: str = ""
    why: str = ""
    dropped: bool = False


def add_parser(subparsers: Any) -> None:
    text = ("Which receive queue a packet comes to and which CPU takes it on: by the installed policy's flow rules, RSS contexts and CPUs, else by the hash "
            "(Toeplitz) of the device's own key, fields and table. Nothing is sent. PACKET is in the words of a policy's tests. It tells what the settings mean; `netc verify --steering` sees whether the device does it.")  # fmt: skip
    command = subparsers.add_parser("where", help="which queue and CPU a packet comes to", description=text)
    command.add_argument("nic", metavar="NIC", help="the policy's name of the nic that it arrives on")
    command.add_argument("packets", nargs="+", metavar="PACKET", help="packets in words, each one argument: 'udp 203.0.113.9:40000 -> 192.0.2.1:53'")
    targets.add_options(command)
    command.set_defaults(run=run_where)


def run_where(options: argparse.Namespace) -> int:
    from runtime.commands.status import installed

    frames = _frames(options.packets)
    with targets.opened(options) as target:
        _, bundle, context = installed(target)
        device = _device(context, options.nic)
        answers = _answers(context, bundle, device, frames)
    _show(dict(zip(options.packets, answers, strict=True)), device, options.json)
    return 0


def _frames(packets: list[str]) -> list[bytes]:
    """Each packet's bytes, made by the compiler's child. Raises CompilerFailed with the drawn place."""
    from runtime import compiler_child

    answer = compiler_child.run_child(["frames", "--", *packets])
    if answer.status != 0:
        raise compiler_child.CompilerFailed("that is no packet", answer.messages)
    return [bytes.fromhex(line) for line in answer.output.decode("ascii").split()]


def _device(context: Context, nic: str) -> Device:
    from runtime.usage import UsageError

    found = next((device for device in context.devices if device.nic == nic), None)
    if found is None:
        raise UsageError(f"the installed policy has no nic {nic}: it has {', '.join(device.nic for device in context.devices)}")
    return found


def _answers(context: Context, bundle: Bundle, device: Device, frames: list[bytes]) -> list[list[Answer]]:
    """Of each frame. Raises Refusal, StepError, OSError where what is installed cannot be read."""
    from runtime.steering.cpu_promises import CpuPromises
    from runtime.steering.nic_promises import NicPromises

    nic = NicPromises(context, bundle, device)
    with CpuPromises(context, bundle, device, leaving=True) as cpus:
        return [_of_one(nic, cpus, frame) for frame in frames]


def _of_one(nic: NicPromises, cpus: CpuPromises, frame: bytes) -> list[Answer]:
    from runtime.steering import flows

    flow = flows.parse(frame)
    promise = nic.of(flow) if flow else None
    queue = _answer(promise) if promise else _by_device(nic, flow)
    if queue.dropped:
        return [queue]
    if gone := cpus.leaves(frame, -1):
        return [queue, Answer("cpu", (), "the installed program", why=gone)]
    moved = cpus.of(frame, -1)
    return [queue, _answer(moved) if moved else Answer("cpu", (), "the CPU that serves its queue")]


def _answer(promise: Promise) -> Answer:
    numbers = tuple(sorted(promise.allowed))
    return Answer(promise.kind, numbers, promise.what, promise.place, promise.why, dropped=not numbers)


def _by_device(nic: NicPromises, flow: Flow | None) -> Answer:
    """Where the policy leaves it to the device."""
    if flow is None:
        return Answer("queue", (), "the device's choice", why=f"{_NOT_TOLD}: it is not IP, or has headers that NICs read each in its own way")
    try:
        queues, why = nic.by_device(flow)
    except OSError as error:
        return Answer("queue", (), "the device's choice", why=f"{_NOT_TOLD}: ETHTOOL_GRSSH: {error.strerror}")
    return Answer("queue", tuple(sorted(queues)), "the device's own RSS", why=why)


def _show(found: dict[str, list[Answer]], device: Device, as_json: bool) -> None:
    from runtime import output

    if as_json:
        packets = [{"packet": words, "answers": [answer._asdict() for answer in answers]} for words, answers in found.items()]
        output.show_json({"nic": device.nic, "device": device.name, "packets": packets})
        return
    print(output.printable(f"on {device.nic} ({device.name}):"))
    rows = [[words, answer.what, _which(answer), answer.by, answer.place] for words, answers in found.items() for answer in answers]
    print(output.table(["packet", "what", "which", "by", "where"], rows))
    for why in dict.fromkeys(answer.why for answers in found.values() for answer in answers if answer.numbers and answer.why):
        output.show_note(f"one of several: {why}")


def _which(answer: Answer) -> str:
    if answer.dropped:
        return "dropped by the NIC"
    return ", ".join(map(str, answer.numbers)) or answer.why or "-"
