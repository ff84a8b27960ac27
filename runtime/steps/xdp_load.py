"""Steps that packets do not see: a generation's maps and programs come into the kernel and are pinned; what is no longer needed goes."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass, field
from pathlib import Path

from compiler.bundle import CPU_MAX, Bundle, Code, Map
from runtime import directories, objects, owner
from runtime import slots as slot_tables
from runtime.backends import bpf
from runtime.context import Context
from runtime.state import Store
from runtime.steps import StepError, xdp_check, xdp_known, xdp_pins, xdp_slots


@dataclass(slots=True)
class LoadStep:
    """Make or reuse the maps, load the programs, pin all of it under the generation. moving: nics whose counters begin in another map; saved: the
    persistent maps that were made; marked: whose pins they were before; old: the bundle before, whose persistent maps are not taken back."""

    context: Context
    bundle: Bundle
    generation: int
    moving: tuple[str, ...] = ()
    old: Bundle | None = None
    saved: list[str] = field(default_factory=list)
    marked: owner.Mark | None = None
    phase: str = "stage"

    @property
    def text(self) -> str:
        counts = ", ".join(f"{code.name} ({len(code.code) // 8} instructions)" for code in self.bundle.programs)
        return f"load {counts} with {len(self.bundle.maps)} maps as generation {self.generation}"

    def do(self) -> None:
        if bpf.possible_cpus() > CPU_MAX:
            raise StepError("load BPF programs", f"this host may have {bpf.possible_cpus()} CPUs, netc counts on {CPU_MAX}")
        made = objects.Objects()
        try:
            self._prepare()
            self._load(made)
        except (bpf.BpfError, OSError) as error:
            self.undo()
            raise _refusal(error) from error
        except BaseException:
            self.undo()
            raise
        finally:
            made.close()

    def undo(self) -> None:
        xdp_pins.remove_tree(xdp_pins.generation(self.context, self.generation))
        for path in {*map(Path, self.saved), *self._came()}:
            path.unlink(missing_ok=True)
        if not xdp_pins.generations(self.context):
            for place in (xdp_pins.maps, xdp_pins.links):
                xdp_pins.remove_empty(place(self.context))
            owner.unmark_pins(self.context)
        elif self.marked is not None:
            owner.unmark_pins(self.context, self.marked)

    def _came(self) -> set[Path]:
        """The persistent maps that this generation brought, also where another process made them; where somebody else's are there, those of `saved` alone."""
        if self.old is None and xdp_pins.generations(self.context):
            return set()
        return persistent(self.context, self.bundle, self.generation) - persistent(self.context, self.old, self.generation)

    def check(self) -> None:
        """Every pin is there and is what the programs use; nothing that the policy fixed can have been written."""
        try:
            xdp_check.check(self.context, self.bundle, self.generation)
        except bpf.BpfError as error:
            raise _refusal(error) from None

    def _prepare(self) -> None:
        _bpffs(self.context.bpffs)
        self.marked = owner.mark_pins(self.context)
        xdp_pins.remove_tree(xdp_pins.generation(self.context, self.generation))  # of an attempt that died
        for path in (xdp_pins.maps, xdp_pins.links):
            path(self.context).mkdir(mode=0o700, exist_ok=True)
        xdp_pins.generation(self.context, self.generation).mkdir(mode=0o700)
        for item in (part for nic in self.moving for part in xdp_slots.counter_maps(self.bundle, nic)):
            xdp_pins.map_path(self.context, item, self.generation).unlink(missing_ok=True)  # of that size, and not cleaned up then

    def _load(self, made: objects.Objects) -> None:
        slots = Store(self.context.state).slots()
        for item in self.bundle.maps:
            made.maps[item.id] = self._map(item)
        for nic in {code.nic for code in self.bundle.programs}:
            self._own_slots(nic, slots, made)
        for code in self.bundle.programs:
            try:
                objects.fill_slots(made.maps, self.bundle, code, slots)
            except KeyError as error:
                raise StepError(f"program {code.name}", f"the counter {error} has no slot", "slots.json was changed: apply again") from None
            self._fill_config(code, made)
            made.programs[code.name] = objects.load(code, made.maps)
            bpf.pin(made.programs[code.name], xdp_pins.program_path(self.context, code.name, self.generation))
        xdp_check.freeze(made.maps, self.bundle)

    def _map(self, item: Map) -> int:
        path = xdp_pins.map_path(self.context, item, self.generation)
        with xdp_pins.opened_if_there(path) as found:
            if found is not None:
                if not objects.same_shape(found, item):
                    raise StepError(f"map {item.name}", f"{path} is not a map that netc made", "remove the pin")
                return os.dup(found)
        made = objects.create_map(item)
        try:
            objects.fill_map(made, item, self.bundle)
            self._fill_known(made, item)
            bpf.pin(made, path)
        except BaseException:
            os.close(made)
            raise
        if item.scope == "persistent":
            self.saved.append(str(path))
        return made

    def _fill_known(self, fd: int, item: Map) -> None:
        """What only this host knows."""
        if item.role == "devices":
            for key, index in xdp_known.devices(self.context, self.bundle).items():
                bpf.map_update(fd, key, index)
        if item.role == "mac":
            bpf.map_update(fd, bytes(4), xdp_known.address(self.context, item))

    def _fill_config(self, code: Code, made: objects.Objects) -> None:
        for item in self.bundle.maps:
            if item.role == "config" and item.id in code.maps:
                bpf.map_update(made.maps[item.id], bytes(4), xdp_known.words(self.context, code, self.generation))

    def _own_slots(self, nic: str, tables: slot_tables.Tables, made: objects.Objects) -> None:
        for role, item, slots in xdp_slots.owned(self.bundle, nic, tables):
            filled = [made.maps[each.id] for each in self.bundle.maps if each.name == f"{nic}.{role}" and each.role == role]
            owners = self._map(item)
            try:
                changed = xdp_slots.take(owners, item.value_size, slots)
            finally:
                os.close(owners)
            for fd in filled:
                xdp_slots.CLEAR[role](fd, changed)


@dataclass(slots=True)
class CleanStep:
    """Remove the pins of other generations, and persistent maps that the bundle does not use. `bundle` None: all of it."""

    context: Context
    bundle: Bundle | None
    generation: int
    phase: str = "clean"

    @property
    def text(self) -> str:
        return "remove the BPF objects of earlier generations" if self.bundle else "remove netc's BPF objects"

    def do(self) -> None:
        for number in xdp_pins.generations(self.context):
            if self.bundle is None or number != self.generation:
                xdp_pins.remove_tree(xdp_pins.generation(self.context, number))
        if self.bundle is None:
            xdp_pins.remove_tree(xdp_pins.maps(self.context))
            xdp_pins.remove_tree(xdp_pins.links(self.context))
            owner.unmark_pins(self.context)
            return
        kept = persistent(self.context, self.bundle, self.generation)
        for path in xdp_pins.maps(self.context).iterdir():
            if path not in kept:
                path.unlink(missing_ok=True)

    def undo(self) -> None:
        """Never asked: cleaning is not undone."""

    def check(self) -> None:
        left = [number for number in xdp_pins.generations(self.context) if self.bundle is None or number != self.generation]
        if left:
            raise StepError(self.text, f"generations {left} are still pinned")


def _bpffs(path: Path) -> None:
    """netc's directory, in a bpf file system that is mounted now if it was not."""
    try:
        bpf.mount_bpffs(path)
        directories.require_bpffs(path)
    except directories.DirectoryError as error:
        words, _, mend = str(error).partition("\n  = help: ")
        raise StepError("prepare the bpf file system", words, mend) from None
    except bpf.BpfError as error:
        mend = f"mounting needs CAP_SYS_ADMIN, which netc has not: mount it before (mount -t bpf -o mode=0700 bpf {path}), or name a directory of /sys/fs/bpf with --bpffs"
        raise StepError(error.what, os.strerror(error.errno or 0), mend if error.errno == errno.EPERM else "") from None


def persistent(context: Context, bundle: Bundle | None, generation: int) -> set[Path]:
    """Where the maps of a bundle are pinned that outlive their generation."""
    if bundle is None:
        return set()
    owners = [item for nic in {code.nic for code in bundle.programs} for _, item, _ in xdp_slots.owned(bundle, nic, {})]
    kept = (item for item in (*bundle.maps, *owners) if item.scope == "persistent")
    return {*(xdp_pins.map_path(context, item, generation) for item in kept), *(xdp_pins.nic_map_path(context, item) for item in bundle.offloads)}


def _refusal(error: OSError) -> StepError:
    """A BpfError in the words of a StepError."""
    if isinstance(error, bpf.BpfError):
        mend = "a program that the verifier refuses is a bug in netc: report it with this text" if error.log else ""
        return StepError(error.what, os.strerror(error.errno or 0) + (f"\n{error.log}" if error.log else ""), mend)
    return StepError("prepare the bpf file system", str(error), "give a directory of a bpf file system with --bpffs")
