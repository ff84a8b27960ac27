"""where: which queue and which CPU a packet comes to, by the installed policy and by what the device says of its hash."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any, NamedTuple

from runtime.commands import target as targets

if TYPE_CHECKING:
    from compiler.bundle import Bundle
    from runtime.context import Context, Device
    from runtime.steering.flows import Flow
    from runtime.steering.nic_promises import Promise

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
    command.add_argument("packet", metavar="PACKET", help="a packet in words, as one argument: 'udp 203.0.113.9:40000 -> 192.0.2.1:53'")
    targets.add_options(command)
    command.set_defaults(run=run_where)


def run_where(options: argparse.Namespace) -> int:
    from runtime.commands.status import installed

    frame = _frame(options.packet)
    with targets.opened(options) as target:
        _, bundle, context = installed(target)
        device = _device(context, options.nic)
        answers = _answers(context, bundle, device, frame)
    _show(answers, device, options.packet, options.json)
    return 0


def _frame(words: str) -> bytes:
    """The packet's bytes, made by the compiler's child. Raises CompilerFailed with the drawn place."""
    from runtime import compiler_child

    answer = compiler_child.run_child(["frames", "--", words])
    if answer.status != 0:
        raise compiler_child.CompilerFailed("that is no packet", answer.messages)
    return bytes.fromhex(answer.output.decode("ascii"))


def _device(context: Context, nic: str) -> Device:
    from runtime.usage import UsageError

    found = next((device for device in context.devices if device.nic == nic), None)
    if found is None:
        raise UsageError(f"the installed policy has no nic {nic}: it has {', '.join(device.nic for device in context.devices)}")
    return found


def _answers(context: Context, bundle: Bundle, device: Device, frame: bytes) -> list[Answer]:
    """Raises Refusal, StepError, OSError where what is installed cannot be read."""
    from runtime.steering import flows
    from runtime.steering.cpu_promises import CpuPromises
    from runtime.steering.nic_promises import NicPromises

    flow = flows.parse(frame)
    nic = NicPromises(context, bundle, device)
    promise = nic.of(flow) if flow else None
    queue = _answer(promise) if promise else _by_device(nic, flow)
    if queue.dropped:
        return [queue]
    with CpuPromises(bundle, device) as cpus:
        moved = cpus.of(frame, -1)
    return [queue, _answer(moved) if moved else Answer("cpu", (), "the CPU that serves its queue")]


def _answer(promise: Promise) -> Answer:
    numbers = tuple(sorted(promise.allowed))
    return Answer(promise.kind, numbers, promise.what, promise.place, promise.why, dropped=not numbers)


def _by_device(nic: Any, flow: Flow | None) -> Answer:
    """Where the policy leaves it to the device."""
    if flow is None:
        return Answer("queue", (), "the device's choice", why=f"{_NOT_TOLD}: it is not IP, or has headers that NICs read each in its own way")
    try:
        queues, why = nic.by_device(flow)
    except OSError as error:
        return Answer("queue", (), "the device's choice", why=f"{_NOT_TOLD}: ETHTOOL_GRSSH: {error.strerror}")
    return Answer("queue", tuple(sorted(queues)), "the device's own RSS", why=why)


def _show(answers: list[Answer], device: Device, words: str, as_json: bool) -> None:
    from runtime import output

    if as_json:
        output.show_json({"nic": device.nic, "device": device.name, "packet": words, "answers": [answer._asdict() for answer in answers]})
        return
    print(output.printable(f"{words}\non {device.nic} ({device.name}):"))
    print(output.table(["what", "which", "by", "where"], [[answer.what, _which(answer), answer.by, answer.place] for answer in answers]))
    for answer in answers:
        if answer.why and not answer.why.startswith(_NOT_TOLD):
            output.show_note(f"{answer.what}: one of these; {answer.why}")


def _which(answer: Answer) -> str:
    if answer.dropped:
        return "dropped by the NIC"
    return ", ".join(map(str, answer.numbers)) or answer.why or "-"
