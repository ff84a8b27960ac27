"""The steps of a generation that has to be confirmed: until then each hook runs a program that hands packets to the new generation before the deadline,
and to the old one behind it, whoever is alive then (runtime.backends.deadline).

    stage   the roots are loaded beside the programs of both generations, and pinned with them
    flip    the deadline is set, then each link gets its root; a hook that the new policy has no program for keeps its old one behind a root
    clean   behind netc confirm: no deadline any more, the links get the programs themselves, hooks without one are detached
"""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from compiler.bundle import Code
from runtime import objects
from runtime.backends import bpf, deadline
from runtime.context import Context
from runtime.steps import Step, StepError, xdp_pins
from runtime.steps.xdp_attach import AttachStep, DetachStep

Hooks = Mapping[tuple[str, str], tuple[Code, str]]  # (nic, hook) → program and XDP mode


def steps(context: Context, wanted: Hooks, had: Collection[tuple[str, str]], leaving: Hooks, generation: int) -> tuple[list[Step], list[Step]]:
    """What comes in the place of attaching and detaching, and what a confirmation leaves to do. had: hooks of the old policy; leaving: those the new one lacks."""
    codes = tuple(code for code, _ in (*wanted.values(), *leaving.values()))
    if not codes:
        return [], []
    flips: list[Step] = [LoadRootsStep(context, codes, generation), DeadlineStep(context)]
    flips += [AttachStep(context, code, generation, mode, key in had, trial=True) for key, (code, mode) in wanted.items()]
    ends: list[Step] = [LiftStep(context)]
    ends += [SettleStep(AttachStep(context, code, generation, mode, True)) for code, mode in wanted.values()]
    for code, mode in leaving.values():
        flips.append(AttachStep(context, code, generation, mode, True, trial=True, flips="xdp off"))
        ends.append(SettleStep(DetachStep(context, code, mode)))
    return flips, [*ends, ForgetStep(context, codes)]


def set_deadline(context: Context, until: float) -> None:
    """Move the end of a trial: seconds of CLOCK_MONOTONIC; nothing where no BPF program is on trial. Raises BpfError."""
    with xdp_pins.opened_if_there(_moment(context)) as moment:
        if moment is not None:
            deadline.set_moment(moment, deadline.jiffies_at(until))


def _moment(context: Context) -> Path:
    return xdp_pins.trial(context) / "moment"


@dataclass(slots=True)
class LoadRootsStep:
    """Load a root for each hook, its deadline passed already: it would hand on to the old program."""

    context: Context
    codes: tuple[Code, ...]
    generation: int
    phase: str = "stage"

    @property
    def text(self) -> str:
        return f"load what brings {', '.join(code.name for code in self.codes)} back to the old programs when the trial ends"

    def do(self) -> None:
        try:
            bpf.mount_bpffs(self.context.bpffs)
            forget(self.context, self.codes)
            xdp_pins.trial(self.context).mkdir(mode=0o700)
            moment = deadline.make_moment()
            try:
                bpf.pin(moment, _moment(self.context))
                for code in self.codes:
                    self._load(code, moment)
            finally:
                os.close(moment)
        except (bpf.BpfError, OSError) as error:
            self.undo()
            raise StepError(self.text, str(error)) from None
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        forget(self.context, self.codes)

    def check(self) -> None:
        missing = [code.name for code in self.codes if not xdp_pins.root_path(self.context, code.name).exists()]
        if missing:
            raise StepError(self.text, f"the root of {', '.join(missing)} is no longer pinned", "end the trial: netc rollback")

    def _load(self, code: Code, moment: int) -> None:
        kind, attach_type = objects.HOOKS[code.hook]
        with (
            xdp_pins.opened_if_there(xdp_pins.program_path(self.context, code.name, self.generation)) as new,
            xdp_pins.opened_if_there(self._before(code)) as old,
        ):
            root = deadline.load(kind, attach_type, code.frags and kind == "xdp", moment, new, old, code.name)
        path = xdp_pins.root_path(self.context, code.name)
        try:
            bpf.pin(root.program, path)
            bpf.pin(root.programs, path.with_name(f"{path.name}+programs"))
        finally:
            os.close(root.program)
            os.close(root.programs)

    def _before(self, code: Code) -> Path:
        """The program of the newest generation before this one that has it; a path to nothing where none has."""
        earlier = [number for number in xdp_pins.generations(self.context) if number < self.generation]
        paths = [xdp_pins.program_path(self.context, code.name, number) for number in earlier]
        return next((path for path in paths if path.exists()), xdp_pins.trial(self.context) / "none")


def forget(context: Context, codes: Iterable[Code]) -> None:
    """Remove the roots. Raises StepError where a link still runs one: without its pins it would let everything pass."""
    for code in codes:
        with xdp_pins.opened_if_there(xdp_pins.root_path(context, code.name)) as root, xdp_pins.opened_if_there(xdp_pins.link_path(context, code)) as link:
            if root is not None and link is not None and bpf.link_info(link).prog_id == bpf.prog_info(root).id:
                raise StepError(f"remove the root of {code.name}", "its link still runs it", "apply the policy again")
    xdp_pins.remove_tree(xdp_pins.trial(context))


@dataclass(slots=True)
class DeadlineStep:
    """Set the deadline, just before the first root is attached."""

    context: Context
    phase: str = "flip"
    flips: str = "fence"

    @property
    def text(self) -> str:
        return f"the old programs are to be back in {self.context.trial:g} s"

    def do(self) -> None:
        try:
            set_deadline(self.context, time.monotonic() + self.context.trial)
        except bpf.BpfError as error:
            raise StepError(self.text, str(error)) from None

    def undo(self) -> None:
        """The links have their old programs again; nobody reads it any more."""

    def check(self) -> None:
        """The deadline may have passed when somebody asks."""


@dataclass(slots=True)
class LiftStep:
    """The policy is confirmed: from here on no deadline ends it."""

    context: Context
    phase: str = "clean"
    flips: str = "fence"
    text: str = "no deadline any more"

    def do(self) -> None:
        try:
            with xdp_pins.opened_if_there(_moment(self.context)) as moment:
                if moment is not None:
                    deadline.set_moment(moment, deadline.NEVER)
        except bpf.BpfError as error:
            raise StepError(self.text, str(error)) from None

    def undo(self) -> None:
        """Never asked: cleaning is not undone."""

    def check(self) -> None:
        """A clean step is not part of what has to hold."""


@dataclass(slots=True)
class SettleStep:
    """Behind the confirmation a link gets the program itself, or its hook has none any more."""

    step: AttachStep | DetachStep
    phase: str = "clean"

    @property
    def text(self) -> str:
        return f"{self.step.text}, for good"

    @property
    def flips(self) -> str:
        return self.step.flips

    def do(self) -> None:
        self.step.do()

    def undo(self) -> None:
        """Never asked: cleaning is not undone."""

    def check(self) -> None:
        """A clean step is not part of what has to hold."""


@dataclass(slots=True)
class ForgetStep:
    """The roots go, once no link runs one."""

    context: Context
    codes: tuple[Code, ...]
    phase: str = "clean"
    flips: str = "xdp off"
    text: str = "remove what would have brought the old programs back"

    def do(self) -> None:
        try:
            forget(self.context, self.codes)
        except bpf.BpfError as error:
            raise StepError(self.text, str(error)) from None

    def undo(self) -> None:
        """Never asked: cleaning is not undone."""

    def check(self) -> None:
        """A clean step is not part of what has to hold."""
