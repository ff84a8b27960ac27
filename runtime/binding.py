"""Which device each nic of a bundle is bound to."""

from __future__ import annotations

import re
import socket
from collections.abc import Mapping, Sequence

from compiler.bundle import Bundle
from runtime.context import Device
from runtime.usage import UsageError

_DEVICE = re.compile(r"[A-Za-z0-9_.:@-]{1,15}\Z")  # as bundle.DeviceName: IFNAMSIZ


class BindingError(Exception):
    """A nic without a device. The text says how to bind it."""


def parse(texts: Sequence[str]) -> dict[str, str]:
    """`--nic wan=ens1f0np0` arguments. Raises UsageError."""
    bound: dict[str, str] = {}
    for text in texts:
        nic, equals, device = text.partition("=")
        if not nic or not equals or not _DEVICE.match(device):
            raise UsageError(f"--nic {text}: write the policy's nic and a device, as in --nic wan=ens1f0np0")
        if nic in bound:
            raise UsageError(f"--nic {text}: {nic} is bound twice")
        bound[nic] = device
    return bound


def choose(bundle: Bundle, wanted: Mapping[str, str]) -> dict[str, str]:
    """nic → device: what the policy says, unless `wanted` says otherwise. Raises BindingError for a nic that is not there."""
    names = [nic.name for nic in bundle.nics]
    for nic in wanted:
        if nic not in names:
            raise BindingError(f"--nic {nic}={wanted[nic]}: the policy has no nic {nic}; it has {', '.join(names) or 'none'}")
    bindings = {nic.name: wanted.get(nic.name, nic.device) for nic in bundle.nics}
    for nic, device in bindings.items():
        others = [other for other in bindings if other != nic and bindings[other] == device]
        if others:
            raise BindingError(f"nics {nic} and {others[0]} are both bound to {device}; bind one anew with --nic")
    return bindings


def present(bindings: Mapping[str, str]) -> dict[str, str]:
    """Those of the bindings whose device is there."""
    there = {device for _, device in socket.if_nameindex()}
    return {nic: device for nic, device in bindings.items() if device in there}


def devices(bindings: Mapping[str, str]) -> tuple[Device, ...]:
    """The devices of this network namespace. Raises BindingError for one that does not exist."""
    return tuple(Device(nic, name, _index(nic, name)) for nic, name in bindings.items())


def _index(nic: str, name: str) -> int:
    try:
        return socket.if_nametoindex(name)
    except OSError:
        there = ", ".join(sorted(device for _, device in socket.if_nameindex() if device != "lo")) or "none but lo"
        raise BindingError(
            f"nic {nic}: there is no device {name} here (there is: {there})\n"
            f"  = help: bind the nic to another one with --nic {nic}=DEVICE"
        ) from None
