"""The members of a policy's dynamic sets, as the kernel has them now."""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from compiler.tables.set_change import KEY, MEMBER
from runtime.backends import bpf
from runtime.context import Context
from runtime.steps import StepError, xdp_pins

if TYPE_CHECKING:
    from runtime.set_view import AnyDynamicSet, AnyMap, AnySets

_CHANGE_SIZE = 16  # role `change`: u64 the last change that holds, u64 the one that is not yet ended


class Member(NamedTuple):
    """key: family and address (compiler.tables.set_change.KEY); expiry: ns of CLOCK_MONOTONIC, 0: never; change: of keyed.h."""

    key: bytes
    expiry: int
    change: int


def size(context: Context, bundle: AnySets, item: AnyDynamicSet) -> int:
    """How many members are live: one that has timed out is still in the map until its place is needed. Raises StepError."""
    return sum(1 for _ in members(context, bundle, item))


def members(context: Context, bundle: AnySets, item: AnyDynamicSet) -> Iterator[Member]:
    """The live members. Raises StepError."""
    now = time.monotonic_ns()
    number = change_words(context, bundle)[0]
    for member in all_members(context, bundle, item):
        if (member.expiry == 0 or member.expiry > now) and _holds(member.change, number):
            yield member


def _holds(change: int, number: int) -> bool:
    """netc_in_change of compiler/targets/keyed.h."""
    if change in (0, (1 << 64) - 1):
        return change == 0
    return number < change >> 1 if change & 1 else number >= change >> 1


def all_members(context: Context, bundle: AnySets, item: AnyDynamicSet) -> Iterator[Member]:
    """Whatever the hash holds, also what has expired or is part of an unfinished change. Raises StepError."""
    table = _open(context, bundle, _name(bundle, item))
    try:
        for key, value in bpf.map_items(table, KEY.size, MEMBER.size):
            expiry, change, _ = MEMBER.unpack(value)
            yield Member(key, expiry, change)
    except bpf.BpfError as error:
        raise StepError(f"read set {item.name}", str(error), "apply the policy again") from None
    finally:
        os.close(table)


def open_maps(context: Context, bundle: AnySets, item: AnyDynamicSet) -> tuple[int, int]:
    """Descriptors of a set's hash and ring. Raises StepError."""
    name = _name(bundle, item)
    table = _open(context, bundle, name)
    try:
        return table, _open(context, bundle, f"{name}.ring")
    except StepError:
        os.close(table)
        raise


def _name(bundle: AnySets, item: AnyDynamicSet) -> str:
    return next((each.name for each in bundle.maps if each.id == item.map), "")


def change_words(context: Context, bundle: AnySets) -> ctypes.Array[ctypes.c_uint64]:
    """The two words of role `change`, in memory as long as they are used; an assignment is one store. Raises StepError."""
    descriptor = _open(context, bundle, next((item.name for item in bundle.maps if item.role == "change"), ""))
    try:
        return (ctypes.c_uint64 * 2).from_buffer(bpf.map_array(descriptor, _CHANGE_SIZE))
    finally:
        os.close(descriptor)


def _open(context: Context, bundle: AnySets, name: str) -> int:
    item: AnyMap | None = next((each for each in bundle.maps if each.name == name), None)
    if item is None:
        raise StepError(f"map {name or 'of a set'}", "it is not in the installed bundle: another netc compiled it", "apply the policy again")
    try:
        return bpf.get_pinned(xdp_pins.map_path(context, item, 0))
    except bpf.BpfError as error:
        raise StepError(f"open {name}", os.strerror(error.errno or 0), "apply the policy again") from None
