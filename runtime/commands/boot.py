"""boot, service: what the machine does for netc when it starts."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runtime.commands import outcome as outcomes
from runtime.commands import target as targets

if TYPE_CHECKING:
    from runtime.at_boot import Booted

_WAIT = 30.0


def add_parser(subparsers: Any) -> None:
    text = ("Apply the last confirmed bundle, as the systemd unit does (netc service). Where it cannot be, the last good one before it is; where "
            "none can be, the policy's devices let in only what the policy protects, answers, ARP, neighbour discovery and DHCP. "
            "Needs neither a compiler nor a policy's text. Exit status: 0 the confirmed policy is in force, or none is wanted; 1 an older one, or none.")  # fmt: skip
    command = subparsers.add_parser("boot", help="apply the last confirmed bundle, at boot", description=text)
    command.add_argument("--wait", type=_seconds, default=_WAIT, metavar="SECONDS", help=f"how long to wait for devices that are not there yet ({_WAIT:g})")
    targets.add_options(command)
    command.set_defaults(run=run_boot)
    text = ("Print the systemd unit that runs `netc boot` before the network comes up; with --install put it where systemd finds it. "
            "It runs as root with CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON and nothing else; stopping it leaves the policy in force.")  # fmt: skip
    service = subparsers.add_parser("service", help="the systemd unit for netc boot: print, install", description=text)
    service.add_argument("--install", action="store_true", help="write it to /etc/systemd/system/netc.service, and say how to enable it")
    service.add_argument("--root", type=Path, default=Path("/"), metavar="DIR", help="of the system to install it in (/)")
    service.add_argument("--state-dir", type=Path, default=targets.STATE, metavar="DIR", help=f"the unit's --state-dir ({targets.STATE})")
    service.add_argument("--bpffs", type=Path, default=targets.BPFFS, metavar="DIR", help=f"the unit's --bpffs ({targets.BPFFS})")
    service.set_defaults(run=run_service)


def _seconds(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 3600:
        raise argparse.ArgumentTypeError("0 to 3600 seconds")
    return value


def run_boot(options: argparse.Namespace) -> int:
    from runtime import at_boot, output

    with targets.opened(options) as target:
        booted = at_boot.boot(target.store, target.context, options.wait, outcomes.reporter(options.json), output.show_warning)
    _show(booted, options.json)
    return 0 if booted.wanted else 1


def _show(booted: Booted, as_json: bool) -> None:
    from runtime import output

    if as_json:
        said = outcomes.as_json(booted.outcome, "boot") if booted.outcome else None
        output.show_json({
            "outcome": said, "confirmed": booted.wanted, "closed": list(booted.closed),
            "refused": [{"what": what, "words": words} for what, words in booted.tried],
        })  # fmt: skip
    elif booted.outcome is not None:
        outcomes.show(booted.outcome, "boot", json=False)
    elif booted.wanted:
        print("nothing to apply: no policy is confirmed here")
    if booted.outcome is not None and not booted.wanted:
        output.show_error("AN OLDER POLICY IS IN FORCE than the confirmed one, which could not be applied (above)\n"
                            "  = help: mend what it says, then: netc apply POLICY, or netc rollback")  # fmt: skip
    elif not booted.wanted:
        held = f"only these are let in: {', '.join(booted.closed)}" if booted.closed else "AND THE DEVICES COULD NOT BE CLOSED"
        output.show_error(f"NO POLICY IS IN FORCE: none could be applied (above); {held}\n"
                          "  = help: mend what it says, then: netc boot, or netc apply POLICY, which opens the devices again")  # fmt: skip


def run_service(options: argparse.Namespace) -> int:
    from runtime import service

    netc = Path(sys.executable).with_name("netc")
    text = service.unit(netc if netc.exists() else Path(sys.argv[0]).absolute(), options.state_dir, options.bpffs)
    if not options.install:
        sys.stdout.write(text)
        return 0
    path = service.install(text, options.root)
    print(f"written: {path}\nnow: systemctl daemon-reload && systemctl enable {path.name}")
    return 0
