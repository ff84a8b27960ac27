"""The guest's first file system: archives that another reader of newc understands, and modules in an order in which they load."""

from __future__ import annotations

import lzma
from pathlib import Path

import pytest

from hwtests.virtual import initrd
from hwtests.virtual.errors import RackError


def unpacked(data: bytes) -> dict[str, tuple[int, bytes]]:
    """Name → (mode, content), read as the kernel's init/initramfs.c does: fields of eight hex digits, all aligned to four."""
    found, at = {}, 0
    while True:
        assert data[at : at + 6] == b"070701"
        fields = [int(data[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        size, length = fields[6], fields[11]
        name = data[at + 110 : at + 110 + length - 1].decode()
        assert data[at + 109 + length] == 0
        at = (at + 110 + length + 3) & ~3
        if name == "TRAILER!!!":
            return found
        found[name] = (fields[1], data[at : at + size])
        at = (at + size + 3) & ~3


def test_an_archive_reads_back() -> None:
    files = {"init": b"#!/bin/sh\n", "bin/odd": b"12345", "bin/none": b""}
    found = unpacked(initrd.archive(files, ("bin", "dev"), {"bin/sh": "odd"}))
    assert {name: content for name, (mode, content) in found.items() if mode == 0o100755} == files
    assert [name for name, (mode, _) in found.items() if mode == 0o040755] == ["bin", "dev"]
    assert found["bin/sh"] == (0o120777, b"odd")
    assert list(found).index("bin") < list(found).index("bin/odd")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel/nic.ko.xz").write_bytes(lzma.compress(b"NIC"))
    (tmp_path / "kernel/i2c-algo.ko").write_bytes(b"I2C")
    (tmp_path / "kernel/ptp.ko").write_bytes(b"PTP")
    (tmp_path / "kernel/pps.ko.zst").write_bytes(b"?")
    (tmp_path / "modules.dep").write_text(
        "kernel/nic.ko.xz: kernel/i2c-algo.ko kernel/ptp.ko\nkernel/i2c-algo.ko: kernel/ptp.ko\nkernel/ptp.ko:\nkernel/pps.ko.zst:\n"
    )
    (tmp_path / "modules.builtin").write_text("kernel/drivers/virtio/virtio_pci.ko\n")
    return tmp_path


def test_modules_come_after_what_they_need(tree: Path) -> None:
    found = initrd.modules(tree, ("virtio_pci", "nic", "ptp"))
    assert found == {"ptp.ko": b"PTP", "i2c_algo.ko": b"I2C", "nic.ko": b"NIC"}
    assert list(found) == ["ptp.ko", "i2c_algo.ko", "nic.ko"]


def test_a_module_that_is_not_there_is_told(tree: Path) -> None:
    with pytest.raises(RackError, match="no module igb"):
        initrd.modules(tree, ("igb",))


def test_a_compression_that_is_not_read_is_told(tree: Path) -> None:
    with pytest.raises(RackError, match=r"pps\.ko\.zst: modules in this compression"):
        initrd.modules(tree, ("pps",))
