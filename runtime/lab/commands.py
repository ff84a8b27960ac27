"""lab: network namespaces to try a policy in."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtime.lab.topology import Side
    from runtime.lab.traffic import Sent

DESCRIPTION = """\
Three network namespaces joined by multi-queue veth: netc-NAME-dut, the device under test, with wan0 and lan0; netc-NAME-wan and
netc-NAME-lan, their other ends. Nothing else of this machine is touched, and no other network is reached.

  netc lab up                                                             make it
  netc apply edge.netc --lab                                              put a policy on it
  netc lab send 'udp 203.0.113.9:5353 -> 192.0.2.1:53' --count 1000000    send into wan0
  netc counters --lab                                                     see what each rule counted
  netc lab down                                                           remove it
"""


def add_parser(subparsers: Any) -> None:
    lab = subparsers.add_parser("lab", help="network namespaces to try a policy in", description=DESCRIPTION,
                                formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    commands = lab.add_subparsers(title="COMMANDS", metavar="COMMAND", required=True)
    _add_up_down(commands)
    _add_send(commands)
    _add_capture(commands)
    _add_demo(commands)


def _add_up_down(commands: Any) -> None:
    for name, run, text in (
        ("up", run_up, "make a lab"),
        ("down", run_down, "remove a lab, also one that was left half made"),
        ("status", run_status, "which labs there are"),
    ):
        command = commands.add_parser(name, help=text, description=text.capitalize() + ".")
        command.add_argument("name", nargs="?", default="" if name == "status" else "lab", metavar="NAME", help="which lab (lab)")
        command.set_defaults(run=run)
        if name == "up":
            command.add_argument("--queues", type=int, default=8, metavar="N", help="receive and transmit queues of each device (8)")
        command.add_argument("--json", action="store_true", help="machine-readable output")


def _add_send(commands: Any) -> None:
    send = commands.add_parser(
        "send", help="send packets into the device under test, millions a second",
        description="Send each packet COUNT times from the other end of a device's cable. The answer is what the device took, "
                    "exactly. With --pcap, frames of a capture are sent, in order.",
    )  # fmt: skip
    send.add_argument("packets", nargs="*", metavar="PACKET", help="in words: 'tcp 203.0.113.9:40000 -> 192.0.2.1:22 syn'")
    send.add_argument("--lab", default="lab", metavar="NAME", help="which lab (lab)")
    send.add_argument("--nic", default="wan", metavar="SIDE", help="wan or lan (wan)")
    send.add_argument("--count", type=int, default=1, metavar="N", help="how often each packet is sent (1)")
    send.add_argument("--rate", type=float, default=0, metavar="PPS", help="packets a second (as fast as it goes)")
    send.add_argument("--pcap", type=Path, metavar="FILE", help="send the frames of a capture instead")
    send.add_argument("--json", action="store_true", help="machine-readable output")
    send.set_defaults(run=run_send)


def _add_capture(commands: Any) -> None:
    capture = commands.add_parser("capture", help="write down what the device under test sends",
                                  description="Frames that leave a device of the device under test, as its cable's other end gets them.")  # fmt: skip
    capture.add_argument("file", type=Path, metavar="FILE", help="a pcap file to write")
    capture.add_argument("--lab", default="lab", metavar="NAME", help="which lab (lab)")
    capture.add_argument("--nic", default="wan", metavar="SIDE", help="wan or lan (wan)")
    capture.add_argument("--idle", type=float, default=5.0, metavar="SECONDS", help="end when nothing came for so long (5)")
    capture.set_defaults(run=run_capture)


def _add_demo(commands: Any) -> None:
    demo = commands.add_parser(
        "demo", help="a policy, its traffic, and the proof that they fit",
        description="Make a lab, apply POLICY, send what POLICY's .packets file says, compare every rule's counter, show the path that "
                    "the packets took, and remove the lab again.",
    )  # fmt: skip
    demo.add_argument("file", type=Path, metavar="POLICY")
    demo.add_argument("--lab", default="demo", metavar="NAME", help="the lab to make (demo)")
    demo.set_defaults(run=run_demo)


def run_up(options: argparse.Namespace) -> int:
    from runtime.lab import build, topology

    names = build.up(options.name, options.queues)
    if options.json:
        _json({"lab": names.name, "namespaces": list(names.namespaces), "devices": [side.device for side in topology.SIDES]})
        return 0
    print(f"lab {names.name} is up: {', '.join(names.namespaces)}")
    for side in topology.SIDES:
        print(f"  {side.device}  {', '.join(side.addresses)}  <->  {side.peer} in {names.netns(side.name)}  {', '.join(side.peer_addresses)}")
    return 0


def run_down(options: argparse.Namespace) -> int:
    from runtime.lab import build

    removed = build.down(options.name)
    if options.json:
        _json({"lab": options.name, "removed": removed})
    else:
        print(f"lab {options.name} is removed" if removed else f"there is no lab {options.name}: nothing to remove")
    return 0


def run_status(options: argparse.Namespace) -> int:
    from runtime.lab import build, netns, topology

    if os.geteuid() != 0:  # the records are root's: without it every lab would seem to be none
        raise topology.LabError("which labs there are is kept where only root reads: run netc lab as root")
    found = [options.name] if options.name else build.labs()
    rows = []
    for name in found:
        lab = topology.names(name)
        record = build.read(lab)
        if record is None:
            raise topology.LabError(f"there is no lab {name}; make it with: netc lab up {name}")
        missing = [each for each in lab.namespaces if not netns.exists(each)]
        state = f"missing {', '.join(missing)}" if missing else "up" if record.whole else "half made"
        rows.append({"lab": name, "state": state, "queues": record.queues, "namespaces": list(lab.namespaces)})
    if options.json:
        _json(rows)
        return 0
    for row in rows:
        print(f"{row['lab']}: {row['state']}, {row['queues']} queues")
    if not rows:
        print("there is no lab; make one with: netc lab up")
    return 0


def run_send(options: argparse.Namespace) -> int:
    from runtime.lab import lab as labs
    from runtime.lab import topology
    from runtime.usage import UsageError

    if bool(options.packets) == bool(options.pcap):
        raise UsageError("say what to send: packets in words, or --pcap FILE")
    lab, side = labs.find(options.lab), topology.side(options.nic)
    rows = []
    for what, sent in _send(lab, side, options):
        rows.append({"packet": what, "packets": sent.packets, "seconds": round(sent.seconds, 6), "way": sent.way})
        if not options.json:
            print(f"{sent.packets:,} sent into {side.device} and taken by it in {sent.seconds:.3f} s ({sent.rate:,.0f}/s, {sent.way}): {what}")
    if options.json:
        _json(rows)
    return 0


def _send(lab: Any, side: Side, options: argparse.Namespace) -> Iterator[tuple[str, Sent]]:
    from runtime.lab import traffic, words

    if options.pcap:
        from compiler.tables import capture

        frames = [frame for _, frame in capture.read(options.pcap) for _ in range(options.count)]
        with lab.enter_peer(side):
            yield str(options.pcap), traffic.send_each(side.peer, frames, options.rate)
        return
    for text, frame in zip(options.packets, words.frames(options.packets, side), strict=True):
        yield text, lab.send(side, frame, options.count, options.rate)


def run_capture(options: argparse.Namespace) -> int:
    from compiler.tables import capture
    from runtime.lab import lab as labs
    from runtime.lab import topology
    from runtime.lab.listen import Listener

    lab, side = labs.find(options.lab), topology.side(options.nic)
    with lab.enter_peer(side), Listener(side.peer) as listener:
        print(f"listening on {side.peer}; ends when nothing came for {options.idle:g} s", file=sys.stderr)
        frames = list(listener.frames(options.idle))
    capture.write(options.file, frames)
    print(f"{options.file}: {len(frames):,} frames")
    return 0


def run_demo(options: argparse.Namespace) -> int:
    from runtime.lab import demo

    return demo.run(options.file, options.lab)


def _json(value: object) -> None:
    from runtime import output

    output.show_json(value)
