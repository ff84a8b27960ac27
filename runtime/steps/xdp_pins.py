"""Where netc's BPF objects are pinned: the names in the bpf file system, and nothing else.

    <bpffs>/maps/<map>~<shape>   persistent maps; a map of another type or size is another pin, so both generations can be there
    <bpffs>/maps/<program>~<hash>  counters in a NIC, by what is counted where
    <bpffs>/gen-<N>/<object>     generation maps and programs of generation N
    <bpffs>/trial/<program>      what runs while a generation is on trial, and what it needs (xdp_trial)
    <bpffs>/links/<nic>-<hook>   what is attached

bpffs refuses dots in names (kernel/bpf/inode.c): they become `~`, and a slash `+`, neither of which a bundle's names have.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from runtime.backends import bpf
from runtime.context import Context

if TYPE_CHECKING:
    from compiler.bundle import Code, Offload
    from runtime.set_view import AnyMap

_PREFIX = "gen-"


def pin_name(name: str) -> str:
    return name.replace(".", "~").replace("/", "+")


def maps(context: Context) -> Path:
    return context.bpffs / "maps"


def links(context: Context) -> Path:
    return context.bpffs / "links"


def generation(context: Context, number: int) -> Path:
    return context.bpffs / f"{_PREFIX}{number}"


def generations(context: Context) -> list[int]:
    """The generations that have pins, newest first."""
    try:
        names = os.listdir(context.bpffs)
    except OSError:
        return []
    numbers = (name.removeprefix(_PREFIX) for name in names if name.startswith(_PREFIX))
    return sorted((int(number) for number in numbers if number.isdecimal()), reverse=True)


def map_path(context: Context, item: AnyMap, number: int) -> Path:
    """The pin of a bundle's map in generation `number`."""
    if item.scope != "persistent":
        return generation(context, number) / pin_name(item.name)
    shape = f"{item.kind}-{item.key_size}-{item.value_size}-{item.max_entries}-{item.flags}"
    return maps(context) / f"{pin_name(item.name)}~{shape}"


def nic_map_path(context: Context, item: Offload) -> Path:
    """The pin of the counters of a NIC's own program: two programs that count the same in the same places share it."""
    import hashlib  # not what a change of a set, which asks for other pins, waits for

    places = f"{item.elements} {item.value_size} {' '.join(item.counters)}"
    return maps(context) / f"{pin_name(item.name)}~{hashlib.sha256(places.encode()).hexdigest()[:16]}"


def program_path(context: Context, name: str, number: int) -> Path:
    return generation(context, number) / f"{pin_name(name)}~program"


def trial(context: Context) -> Path:
    return context.bpffs / "trial"


def root_path(context: Context, name: str) -> Path:
    """The program that hands packets to the generation on trial, and after the deadline to the one before."""
    return trial(context) / f"{pin_name(name)}~program"


def link_path(context: Context, code: Code) -> Path:
    return links(context) / f"{pin_name(code.nic)}-{pin_name(code.hook)}"


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """The descriptor of a pin. Raises BpfError."""
    descriptor = bpf.get_pinned(path)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def opened_if_there(path: Path) -> Iterator[int | None]:
    """The descriptor of a pin, None where there is none. Raises BpfError for any other refusal."""
    try:
        descriptor = bpf.get_pinned(path)
    except bpf.BpfError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR):
            raise
        yield None
        return
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def remove_tree(directory: Path) -> None:
    """Take away a directory of pins; none is fine."""
    try:
        for name in os.listdir(directory):
            (directory / name).unlink(missing_ok=True)
        directory.rmdir()
    except FileNotFoundError:
        pass


def remove_empty(directory: Path) -> None:
    """Take away a directory without pins; one with some stays, and none is fine, also where nothing can be written (rmdir(2) asks for that first)."""
    if not directory.exists():
        return
    try:
        directory.rmdir()
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise
