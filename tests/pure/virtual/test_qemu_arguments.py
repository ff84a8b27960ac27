"""QEMU's command line: names that tests rely on, places that do not collide, and NICs that cannot be, refused."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hwtests.virtual import qemu
from hwtests.virtual.errors import RackError
from hwtests.virtual.machine import PAIRS
from hwtests.virtual.qemu import Nic


def test_devices_are_named_by_driver_and_number() -> None:
    assert qemu.names(PAIRS) == ["igb0", "igb1", "virtio0", "virtio1", "vmxnet0", "vmxnet1", "e1000e0", "e1000e1"]
    assert qemu.names((Nic("vmxnet3"), Nic("igb"), Nic("vmxnet3"))) == ["vmxnet0", "igb0", "vmxnet1"]


def test_no_two_nics_share_an_address_or_a_slot() -> None:
    lines = [" ".join(qemu.nic_arguments(index, nic, list(range(10 + 4 * index, 10 + 4 * index + nic.queues)))) for index, nic in enumerate(PAIRS)]
    machine = " ".join(qemu.machine_arguments(Path("/r/boot/vmlinuz"), 3, 1024, 2))
    slots = [slot for line in [*lines, machine] for slot in re.findall(r"addr=(0x[0-9a-f]+)", line)]
    assert len(slots) == len(set(slots)) == len(PAIRS) + 2
    assert len({qemu.address(index) for index in range(len(PAIRS))}) == len(PAIRS)


def test_igb_has_a_bus_of_its_own_and_virtio_its_queues() -> None:
    igb = " ".join(qemu.nic_arguments(1, Nic("igb"), [7]))
    assert re.search(r"pcie-root-port,id=(\w+),.*-device igb,bus=\1,", igb)
    assert "local.type=fd,local.str=7" in igb
    virtio = " ".join(qemu.nic_arguments(2, Nic("virtio", 3), [7, 8, 9]))
    assert "fds=7:8:9," in virtio and "mq=on,vectors=8,rss=on,hash=on" in virtio


@pytest.mark.parametrize(("kind", "queues"), [("igb", 2), ("virtio", 0), ("virtio", 17), ("rtl8139", 1)])
def test_a_nic_that_cannot_be_is_refused(kind: str, queues: int) -> None:
    with pytest.raises(RackError, match=kind):
        Nic(kind, queues)  # type: ignore[arg-type]
