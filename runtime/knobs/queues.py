"""The files that each queue of a device has in sysfs: XPS, RPS, and those that netc never sets but gives back with the queues.

For XPS and RPS the wish is a list of CPUs. Transmit queue i gets CPU i of the list, counted round; with fewer transmit queues than CPUs
a queue gets every n-th. RPS: every receive queue spreads over all of them. Values are one CPU list a queue, as the kernel writes them.
Source: Documentation/networking/scaling.rst, Documentation/ABI/testing/sysfs-class-net-queues.
"""

from __future__ import annotations

import errno

from runtime.backends.sysfs import Sysfs
from runtime.knobs import Refusal, Value, Wanted, refused
from runtime.knobs.affinity import mask, online, shown, unmask

RAW = {"xps_rxqs": "tx-", "tx_maxrate": "tx-"}


class QueueFile:
    """One file of every queue of a kind, as the kernel writes it. `write` leaves queues alone that have their value already."""

    resets = False
    after: tuple[str, ...] = ("channels",)

    def __init__(self, device: str, file: str, queues: str) -> None:
        self._device, self._file, self._queues = device, file, queues

    def read(self) -> Value:
        with self._sysfs() as tree:
            return [self._get(tree, path) for path in self._paths(tree)]

    def resolve(self, wanted: Wanted) -> Value:
        """Every queue alike. netc has no statement for it: only what was read before is written."""
        with self._sysfs() as tree:
            return [str(wanted)] * len(self._paths(tree))

    def write(self, value: Value) -> None:
        with self._sysfs() as tree:
            for path, item in zip(self._paths(tree), value if isinstance(value, list) else [], strict=False):
                if self._get(tree, path) == item:
                    continue
                try:
                    tree.write(path, self._text(str(item)))
                except OSError as error:
                    raise refused(path, error) from None

    def _get(self, tree: Sysfs, path: str) -> str:
        try:
            return self._value(tree.read(path))
        except OSError as error:
            why = " (the device has one transmit queue)" if error.errno == errno.ENOENT and self._queues == "tx-" else ""
            raise Refusal(f"{path}: {error.strerror}{why}") from None

    def _paths(self, tree: Sysfs) -> list[str]:
        queues = f"class/net/{self._device}/queues"
        try:
            names = [name for name in tree.names(queues) if name.startswith(self._queues)]
        except OSError as error:
            raise refused(queues, error) from None
        return [f"{queues}/{name}/{self._file}" for name in names]

    def _sysfs(self) -> Sysfs:
        try:
            return Sysfs()
        except OSError as error:
            raise refused("sysfs of this network namespace", error) from None

    def _value(self, text: str) -> str:
        return text

    def _text(self, value: str) -> str:
        return value


class PacketSteering(QueueFile):
    """xps_cpus of every transmit queue, or rps_cpus of every receive queue."""

    def __init__(self, device: str, group: str) -> None:
        super().__init__(device, f"{group}_cpus", "tx-" if group == "xps" else "rx-")

    def resolve(self, wanted: Wanted) -> Value:
        cpus = online(wanted)
        with self._sysfs() as tree:
            count = len(self._paths(tree))
        if self._queues == "rx-":
            return [shown(cpus)] * count
        return [shown(cpus[at::count] if count < len(cpus) else [cpus[at % len(cpus)]]) for at in range(count)]

    def _value(self, text: str) -> str:
        return unmask(text)

    def _text(self, value: str) -> str:
        return mask(value)
