"""The guest's first file system: a cpio archive in memory, made anew for each boot (0.1 s), so that it also carries what this boot is told.

Format: newc, Documentation/driver-api/early-userspace/buffer-format.rst of the kernel.
"""

from __future__ import annotations

import lzma
from pathlib import Path

from hwtests.virtual.errors import RackError

_DIRECTORY, _FILE, _LINK = 0o040755, 0o100755, 0o120777


def archive(files: dict[str, bytes], directories: tuple[str, ...] = (), links: dict[str, str] | None = None) -> bytes:
    """A newc archive. files: path without leading slash → content (all executable); parents must be among the directories."""
    entries = [(name, _DIRECTORY, b"") for name in directories]
    entries += [(name, _FILE, content) for name, content in files.items()]
    entries += [(name, _LINK, target.encode()) for name, target in (links or {}).items()]
    parts = [_entry(number, name, mode, content) for number, (name, mode, content) in enumerate(entries, 1)]
    return b"".join(parts) + _entry(0, "TRAILER!!!", 0, b"")


def _entry(inode: int, name: str, mode: int, content: bytes) -> bytes:
    encoded = name.encode() + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(encoded), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + encoded
    return _padded(head) + _padded(content)


def _padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def modules(directory: Path, names: tuple[str, ...]) -> dict[str, bytes]:
    """File name → content, uncompressed, of these kernel modules and all they need, in an order in which they can be loaded.

    directory: /lib/modules/RELEASE with depmod's modules.dep. What is built into the kernel is left out. Raises RackError.
    """
    needs = _dependencies(directory / "modules.dep")
    builtin = {_name(line) for line in (directory / "modules.builtin").read_text().split()}
    order: dict[str, bytes] = {}
    for name in names:
        if name in builtin:
            continue
        if name not in needs:
            raise RackError(f"the rack's kernel has no module {name} ({directory})")
        path, below = needs[name]
        for one in (*reversed(below), path):  # modules.dep lists what is needed first last
            order.setdefault(f"{_name(one)}.ko", b"")
            if not order[f"{_name(one)}.ko"]:
                order[f"{_name(one)}.ko"] = _content(directory / one)
    return order


def _dependencies(index: Path) -> dict[str, tuple[str, list[str]]]:
    found = {}
    for line in index.read_text().splitlines():
        path, _, below = line.partition(":")
        found[_name(path)] = (path, below.split())
    return found


def _name(path: str) -> str:
    return path.rpartition("/")[2].partition(".ko")[0].replace("-", "_")


def _content(path: Path) -> bytes:
    data = path.read_bytes()
    if path.suffix == ".xz":
        return lzma.decompress(data)
    if path.suffix == ".ko":
        return data
    raise RackError(f"{path.name}: modules in this compression are not read here (xz and none are)")
