"""What an apply will do, in order. Gathering the steps reads the system; nothing here changes it.

The one place of the order:

    stage   settings that disrupt (channels, rings: the programs go on last), tc (ifb devices, new classes), nft (dry run),
            xdp (maps, programs), record (what it counted, should it be taken back), the other settings
    flip    the fence, xdp on, nft, the fence off, xdp off, tc: what the old and the new policy both drop is dropped at every moment.
            XDP hands on only to rules that are there, and comes off only when nft judges. Removal goes from the last stage to the first.
    clean   what the old generation leaves: as in flip
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from types import ModuleType

from compiler.bundle import Bundle
from runtime.context import Context
from runtime.steps import Step

BACKENDS = ("settings", "tc", "nft", "xdp", "record")
_FLIP_ORDER = ("fence", "xdp", "nft", "fence off", "xdp off", "tc", "settings", "settings last")  # a step's `flips`, or else its backend
_REMOVAL_ORDER = ("settings", "tc", "nft", "xdp", "xdp off", "settings last")


@dataclass(frozen=True, slots=True)
class Planned:
    """One step and the backend that it belongs to."""

    backend: str
    step: Step


@dataclass(frozen=True, slots=True)
class Skipped:
    """A `prefer` that cannot be had here, and the device's own words."""

    text: str
    words: str


@dataclass(frozen=True, slots=True)
class Plan:
    """The ordered steps from `old` to `new` (None: nothing installed) as generation `generation`."""

    generation: int
    new: Bundle | None
    old: Bundle | None
    steps: tuple[Planned, ...]
    refused: tuple[Skipped, ...]

    def ordered(self) -> list[Step]:
        return [planned.step for planned in self.steps]

    @property
    def skipped(self) -> tuple[Skipped, ...]:
        """Every `prefer` that is not to be had; after the steps ran also what was refused only then."""
        return tuple(dict.fromkeys((*self.refused, *skipped_of(self.ordered()))))


def backend(name: str) -> ModuleType:
    """The steps module of a backend, imported when it is first needed (netlink and nft libraries come with it)."""
    return importlib.import_module(f"runtime.steps.{name}")


def build(context: Context, new: Bundle | None, old: Bundle | None, generation: int) -> Plan:
    """Ask every backend for its steps and put them in order. Raises StepError where a backend sees that it cannot be done."""
    found: list[Planned] = []
    refused: list[Skipped] = []
    for name in BACKENDS:
        for step in backend(name).steps(context, new, old, generation):
            if name == "settings" and bool(getattr(step, "skipped", None)):
                refused += skipped_of([step])  # nothing to do: it is only told
            else:
                found.append(Planned(name, step))
    return Plan(generation, new, old, order(found, removing=new is None), tuple(refused))


def order(steps: list[Planned], removing: bool = False) -> tuple[Planned, ...]:
    """The order above. Steps of one backend and phase stay in the order that the backend gave."""
    flips = _REMOVAL_ORDER if removing else _FLIP_ORDER

    def rank(planned: Planned) -> tuple[int, int]:
        phase = ("stage", "flip", "clean").index(planned.step.phase)
        if phase == 0:
            late = planned.backend == "settings" and not getattr(planned.step, "resets", False)
            return phase, len(BACKENDS) if late else BACKENDS.index(planned.backend)
        return phase, flips.index(getattr(planned.step, "flips", planned.backend))

    return tuple(sorted(steps, key=rank))


def skipped_of(steps: list[Step]) -> list[Skipped]:
    """Steps may carry `skipped`: pairs of what is preferred and why it cannot be had. Of a statement with several settings the others are had: it is said which is not."""
    return [
        Skipped(text := str(getattr(setting, "text", "") or setting), f"{setting.key}: {words}" if "," in text and hasattr(setting, "key") else str(words))
        for step in steps
        for setting, words in getattr(step, "skipped", ())
    ]
