"""Changes the members of one dynamic set by hand, as a whole: packets are judged by all of a change or by nothing of it.

A change is staged (members come and leave under its number, which no packet counts yet), holds from one store on, and is then settled:
what came becomes ordinary, what left goes out of the hash once no packet can still be judged by the time before. Whatever dies on the
way is ended by the next change: taken back when it did not hold yet. compiler/targets/keyed.h and set_change.h have the kernel's part.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Self

from compiler.tables import set_change as kernel
from runtime import sets
from runtime.backends import bpf, membarrier
from runtime.context import Context

if TYPE_CHECKING:
    from runtime.set_view import AnyDynamicSet, AnySets

_ROUNDS = 10_000  # a member that another CPU is at is free again within microseconds


class SetError(Exception):
    """A change that was not done; nothing of it holds. The text says why and what to do."""


class Wish(NamedTuple):
    """come: members that shall be there, with their expiry (ns of CLOCK_MONOTONIC, 0: never); leave: members that shall not."""

    come: Mapping[bytes, int] = {}  # never written
    leave: Sequence[bytes] = ()
    renew: bool = False


class Done(NamedTuple):
    """added: were none before; kept: were members already; removed; absent: were none; evicted: others that went to make room."""

    added: int = 0
    kept: int = 0
    removed: int = 0
    absent: tuple[bytes, ...] = ()
    evicted: int = 0


def change(context: Context, bundle: AnySets, item: AnyDynamicSet, wish: Wish) -> Done:
    """Make the wish true, all of it at once. The caller holds the lock. Raises SetError, StepError, BpfError."""
    words = sets.change_words(context, bundle)
    with _Program(context, bundle, item) as program:
        _end_unfinished(context, bundle, words)
        number = words[0] + 1
        words[1] = number
        try:
            results = _stage(program, number, wish)
        except BaseException:
            program.run(kernel.UNDO, number, [(key, 0, 0) for key in (*wish.leave, *wish.come)])
            words[1] = 0
            raise
        words[0] = number  # one store: from here on every packet that comes is judged by the whole change
        if not membarrier.wait():
            return _done(wish, results)  # the next change settles this one
        renewed = kernel.RENEW if wish.renew else 0
        program.run(kernel.SETTLE, number, [(key, 0, 0) for key in wish.leave])
        program.run(kernel.SETTLE, number, [(key, expiry, renewed) for key, expiry in wish.come.items()])
        words[1] = 0
        return _done(wish, results)


def _stage(program: _Program, number: int, wish: Wish) -> tuple[list[int], list[int]]:
    left = program.run(kernel.DELETE, number, [(key, 0, 0) for key in wish.leave])
    entries = [(key, expiry, 0) for key, expiry in wish.come.items()]
    came = program.run(kernel.ADD, number, entries)
    for flags in (0, kernel.EVICT):
        missing = [i for i, result in enumerate(came) if result == kernel.NO_ROOM]
        if not missing or (flags and program.item.full != "evict"):
            break
        if not flags:
            program.sweep()
        again = program.run(kernel.ADD, number, [(*entries[i][:2], flags) for i in missing])
        for i, result in zip(missing, again, strict=True):
            came[i] = result
    if short := came.count(kernel.NO_ROOM):
        raise SetError(_no_room(program.item, short, bool(wish.leave)))
    return left, came


def _no_room(item: AnyDynamicSet, missing: int, replacing: bool) -> str:
    why = f"{item.name} has {item.size:,} places; {missing:,} more are needed, and `full keep` gives none away; nothing was changed"
    if replacing:
        return (f"{why}\n  = help: old and new members stand side by side until the change holds: give the set a larger `size` and apply, "
                f"or take members out first with: netc set del {item.name} --all")  # fmt: skip
    return f"{why}\n  = help: take members out (netc set del), or give the set a larger `size` and apply"


def _done(wish: Wish, results: tuple[list[int], list[int]]) -> Done:
    left, came = (Counter(each) for each in results)
    absent = tuple(key for key, result in zip(wish.leave, results[0], strict=True) if result == kernel.ABSENT)
    return Done(came[kernel.ADDED] + came[kernel.MADE_ROOM], came[kernel.LIVE], left[kernel.LEAVES], absent, came[kernel.MADE_ROOM])


def _end_unfinished(context: Context, bundle: AnySets, words: ctypes.Array[ctypes.c_uint64]) -> None:
    """Settle, or take back, what a command that died left: its members are found by the change's number, in whatever set."""
    number = words[1]
    if not number:
        return
    op = kernel.SETTLE if words[0] >= number else kernel.UNDO
    if op == kernel.SETTLE and not membarrier.wait():
        raise SetError("this kernel cannot tell when packets have been judged (membarrier): an earlier change of a set is not yet settled\n"
                       "  = help: boot it without nohz_full")  # fmt: skip
    for item in bundle.sets:
        keys = [member.key for member in sets.all_members(context, bundle, item) if member.change >> 1 == number]
        if keys:
            with _Program(context, bundle, item) as program:
                program.run(op, number, [(key, 0, 0) for key in keys])
    words[1] = 0


class _Program:
    """The kernel's part, loaded for one set: runs batches of entries."""

    def __init__(self, context: Context, bundle: AnySets, item: AnyDynamicSet) -> None:
        self.item = item
        self._context, self._bundle = context, bundle
        self._fds: list[int] = []

    def __enter__(self) -> Self:
        try:
            table, ring = sets.open_maps(self._context, self._bundle, self.item)
            self._fds += [table, ring]
            batch = bpf.create_map("array", 4, kernel.BATCH_SIZE, 1, bpf.F_MMAPABLE, "set_batch")
            self._fds.append(batch)
            maps = {kernel.SET: table, kernel.RING: ring, kernel.BATCH: batch}
            self._fds.append(bpf.load_program("sched_cls", kernel.code(self.item.size), maps, "set_change"))
            self._memory = bpf.map_array(batch, kernel.BATCH_SIZE)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._memory.close()
        self._close()

    def _close(self) -> None:
        while self._fds:
            os.close(self._fds.pop())

    def run(self, op: int, number: int, entries: Sequence[tuple[bytes, int, int]]) -> list[int]:
        """The result of every (key, expiry, flags), in order; entries that another CPU is at are tried again. Raises SetError."""
        results: list[int] = []
        for at in range(0, len(entries), kernel.ENTRIES):
            results += self._batch(op, number, entries[at : at + kernel.ENTRIES])
        for _ in range(_ROUNDS):
            busy = [i for i, result in enumerate(results) if result == kernel.BUSY]
            if not busy:
                return results
            os.sched_yield()
            some = busy[: kernel.ENTRIES]
            for i, result in zip(some, self._batch(op, number, [entries[i] for i in some]), strict=True):
                results[i] = result
        raise SetError(f"a member of {self.item.name} stayed in use by other CPUs; try again")

    def _batch(self, op: int, number: int, entries: Sequence[tuple[bytes, int, int]]) -> Iterable[int]:
        content = b"".join(kernel.ENTRY.pack(key, flags, expiry, kernel.NOT_DONE) for key, expiry, flags in entries)
        self._memory[kernel.HEAD.size : kernel.HEAD.size + len(content)] = content
        self._start(op, number, 0, len(entries))
        size = kernel.HEAD.size + len(content)
        results = [result for *_, result in kernel.ENTRY.iter_unpack(self._memory[kernel.HEAD.size : size])]
        if kernel.NOT_DONE in results:
            raise SetError(f"the kernel did not do a change of {self.item.name}; apply the policy again")
        return results

    def sweep(self) -> int:
        """Give back every place whose member has expired; how many."""
        self._start(kernel.SWEEP, 0, 0, self.item.size)
        return int(kernel.HEAD.unpack_from(self._memory)[-1])

    def _start(self, op: int, number: int, first: int, count: int) -> None:
        self._memory[: kernel.HEAD.size] = kernel.HEAD.pack(first, count, op, time.monotonic_ns(), number, 0)
        if count:
            bpf.test_run(self._fds[-1], bytes(64), repeat=count)

