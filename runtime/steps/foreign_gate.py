"""A closed gate: while somebody else's XDP program leaves a device and netc's comes (or the other way round) no packet gets in unjudged.

The kernel has no way from a program without a link to one with a link but through none (dev_xdp_attach in net/core/dev.c). So an nft table of
netc's own drops all that arrives on the device for these milliseconds; it is a table of its own, so that no other has to know of it.
"""

from __future__ import annotations

from runtime.backends import nft as backend
from runtime.backends.nft import Json, NftError
from runtime.context import Device
from runtime.steps import StepError
from runtime.steps.nft_content import OWNER

_NAME = "netc-closed-"  # then the ifindex
_PRIORITY = -2000000000  # before every other chain of the device


def close(device: Device) -> None:
    """Nothing gets in by this device any more. Raises StepError."""
    table = _table(device.ifindex)
    _refuse_foreign(table["name"])
    chain = {**table, "table": table["name"], "name": OWNER, "type": "filter", "hook": "ingress", "prio": _PRIORITY, "policy": "drop", "dev": device.name}
    _run([*_gone(table), {"add": {"table": table}}, {"add": {"chain": chain}}], f"close {device.name} for a moment")


def open_again(device: Device) -> None:
    """The gate goes; it need not be there. Raises StepError."""
    table = _table(device.ifindex)
    _refuse_foreign(table["name"])
    _run(_gone(table), f"open {device.name} again")


def is_closed(device: Device) -> bool:
    return ("netdev", _table(device.ifindex)["name"]) in _tables()


def remove_stray() -> None:
    """Gates that an unfinished change has left, when that change is given up. Raises StepError."""
    for family, name in _tables():
        if family == "netdev" and name.startswith(_NAME) and name.removeprefix(_NAME).isdecimal():
            _refuse_foreign(name)
            _run(_gone({"family": family, "name": name}), "take a stray gate away")


def _table(ifindex: int) -> dict[str, str]:
    return {"family": "netdev", "name": f"{_NAME}{ifindex}"}


def _gone(table: dict[str, str]) -> list[Json]:
    """Adding it first lets the deletion never fail."""
    return [{"add": {"table": table}}, {"delete": {"table": table}}]


def _refuse_foreign(name: str) -> None:
    if ("netdev", name) in _tables() and OWNER not in backend.names(backend.list_table("netdev", name), "chain"):
        raise StepError(f"nft table netdev {name}", "it is there and netc did not make it", f"rename or delete it: nft delete table netdev {name}")


def _tables() -> set[tuple[str, str]]:
    try:
        return backend.tables()
    except NftError as error:
        raise StepError("list the nft tables", str(error)) from None


def _run(commands: list[Json], what: str) -> None:
    try:
        backend.run(commands)
    except NftError as error:
        raise StepError(what, str(error)) from None
