"""RSS contexts: an indirection table of its own for what a flow rule names (ethtool -X DEV context new).

The kernel numbers contexts and gives them no names: which one is which rule's, netc remembers in <state>/contexts.json, for this boot and this very
device. What is there besides when one is being made stands in the file before, so that one whose maker died is found again.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import msgspec

from runtime import boot
from runtime.backends import ethtool_ioctl, rss_contexts
from runtime.context import Device
from runtime.knobs import Refusal, Value, Wanted, refused, steering

_FILE = "contexts.json"


class Kept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One context that netc made. number 0: it was being made, beside those in `others`."""

    ifindex: int
    boot: str
    number: Annotated[int, msgspec.Meta(ge=0, le=0xFFFFFFFF)]
    others: tuple[int, ...] = ()


class Contexts:
    """netc's contexts of one device, by the names of the rules that they are for."""

    def __init__(self, state: Path, device: Device) -> None:
        self._path, self._device = state / _FILE, device

    def number(self, name: str) -> int:
        """The kernel's number of the context; 0: there is none. Raises OSError, Refusal."""
        kept = self.kept().get(self._key(name))
        if kept is None or (kept.ifindex, kept.boot) != (self._device.ifindex, boot.boot_id()):
            return 0
        if kept.number:
            return kept.number if rss_contexts.is_there(self._device.name, kept.number) else 0
        made = self._unclaimed(kept.others)
        return made[0] if len(made) == 1 else 0

    def create(self, name: str, table: tuple[int, ...], key: bytes) -> int:
        """Raises OSError, Refusal."""
        others = tuple(rss_contexts.numbers(self._device.name))
        self._put(name, 0, others)
        try:
            number = rss_contexts.create(self._device.name, table, key)
        except BaseException:
            self._forget(name)
            raise
        self._put(name, number)
        return number

    def delete(self, name: str) -> None:
        """Raises OSError, Refusal."""
        if number := self.number(name):
            rss_contexts.delete(self._device.name, number)
        self._forget(name)

    def _unclaimed(self, others: tuple[int, ...]) -> list[int]:
        claimed = {kept.number for key, kept in self.kept().items() if key.startswith(f"{self._device.name}/")}
        return [number for number in rss_contexts.numbers(self._device.name) if number not in others and number not in claimed]

    def _key(self, name: str) -> str:
        return f"{self._device.name}/{name}"

    def _put(self, name: str, number: int, others: tuple[int, ...] = ()) -> None:
        self._write({**self.kept(), self._key(name): Kept(self._device.ifindex, boot.boot_id(), number, others)})

    def _forget(self, name: str) -> None:
        kept = self.kept()
        if kept.pop(self._key(name), None) is not None:
            self._write(kept)

    def kept(self) -> dict[str, Kept]:
        """The file, by device and name. Raises Refusal."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=dict[str, Kept])
        except FileNotFoundError:
            return {}
        except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
            mend = f"take the file away; netc then no longer knows which contexts it made: ethtool -x {self._device.name} context N shows them"
            raise Refusal(f"reading {self._path}: {error}", mend) from None

    def _write(self, kept: dict[str, Kept]) -> None:
        from runtime.state import write_atomically

        write_atomically(self._path, json.dumps(msgspec.to_builtins(kept), indent=1, sort_keys=True).encode() + b"\n")


def every(state: Path, device: Device) -> list[int]:
    """The numbers of netc's contexts of a device. Raises Refusal."""
    found, mine = Contexts(state, device), f"{device.name}/"
    try:
        return [number for key in found.kept() if key.startswith(mine) and (number := found.number(key.removeprefix(mine)))]
    except OSError as error:
        raise refused("ETHTOOL_GRSSH", error) from None


class ContextTable:
    """One context by its rule's name. The value: what of its hash is not as the device's own, and its table; [] where there is none."""

    resets = False
    after: tuple[str, ...] = ("channels", "ring", "feature", "priv-flag", "rss", "hash")

    def __init__(self, state: Path, device: Device, name: str) -> None:
        self._device, self._name, self._contexts = device.name, name, Contexts(state, device)

    def read(self) -> Value:
        number = self._number()
        if not number:
            return []
        own, context = steering.rss(self._device), steering.rss(self._device, number)
        other = ["another hash key"] if context.key and any(context.key) and context.key != own.key else []
        return [*other, *(f"other fields of {flow}" for flow, _ in self._other_fields(number)), *context.table]

    def resolve(self, wanted: Wanted) -> Value:
        return steering.spread(wanted, len(steering.rss(self._device).table))

    def write(self, value: Value) -> None:
        table = tuple(int(queue) for queue in value if isinstance(queue, int)) if isinstance(value, list) else ()
        number = self._number()
        try:
            if not table:
                self._contexts.delete(self._name)
            elif number:
                self._change(number, table)
            else:
                self._take_fields(self._contexts.create(self._name, table, steering.rss(self._device).key))
        except OSError as error:
            what = "delete" if not table else "change" if number else "make"
            raise refused(f"{what} an RSS context (ETHTOOL_SRSSH)", error) from None

    def _change(self, number: int, table: tuple[int, ...]) -> None:
        own, context = ethtool_ioctl.rss(self._device), ethtool_ioctl.rss(self._device, number)
        ethtool_ioctl.set_rss(self._device, table, own.key if context.key != own.key and any(context.key) else b"", number)
        self._take_fields(number)

    def _take_fields(self, number: int) -> None:
        """Hash what the device's own RSS hashes; a device whose contexts have no fields of their own shares them."""
        for flow, fields in self._other_fields(number):
            ethtool_ioctl.set_hash_fields(self._device, flow, fields, number)

    def _other_fields(self, number: int) -> list[tuple[str, tuple[str, ...]]]:
        found = []
        for flow in ethtool_ioctl.FLOW_TYPES:
            try:
                own, here = ethtool_ioctl.hash_fields(self._device, flow), ethtool_ioctl.hash_fields(self._device, flow, number)
            except OSError:
                continue  # no fields of its own
            if own != here:
                found.append((flow, own))
        return found

    def _number(self) -> int:
        try:
            return self._contexts.number(self._name)
        except OSError as error:
            raise refused("ETHTOOL_GRSSH", error) from None
