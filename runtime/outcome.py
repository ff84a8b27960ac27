"""What a change of what is installed did, and how its steps are told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runtime.state import Record

if TYPE_CHECKING:
    from runtime.plan import Plan
    from runtime.steps import Step
    from runtime.transaction import Left

Report = Callable[[str, "Step"], None]


@dataclass(frozen=True, slots=True)
class Outcome:
    """`changed` False: everything was as wanted already. `left`: what could not be cleaned up. trial: seconds in which it has to be confirmed."""

    plan: Plan | None
    record: Record
    changed: bool
    left: tuple[Left, ...] = ()
    recovered: tuple[str, ...] = field(default=())
    trial: float = 0.0
