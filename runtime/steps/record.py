"""What a generation counted that is taken back: without it no stage would balance, for what its rules counted was seen.

The step does nothing; its undo comes between those of the flips and those of the stage steps, when the old generation judges again and the new one's
counters are still there.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec

from compiler.bundle import Bundle
from runtime.context import Context
from runtime.state import Store
from runtime.steps import Step, StepError


def steps(context: Context, new: Bundle | None, old: Bundle | None, generation: int) -> list[Step]:
    """None where nothing was installed, or nothing will be: then no counter goes on."""
    return [LedgerStep(context, new, old, generation)] if new is not None and old is not None else []


@dataclass(slots=True)
class LedgerStep:
    """Keeps what rules of `new` counted that `old` does not have."""

    context: Context
    new: Bundle
    old: Bundle
    generation: int
    phase: str = "stage"
    text: str = "counters: what new rules count is kept, also if they are taken back"

    def do(self) -> None:
        """There is nothing to keep yet."""

    def undo(self) -> None:
        from runtime import counters

        store = Store(self.context.state)
        record = store.record()
        try:
            ledger = counters.ledger_after(self.context, record.retired, self._shared(), self.old)
        except StepError:
            return  # counters that cannot be read are no reason to leave the rest as it is
        store.write_record(msgspec.structs.replace(record, retired=ledger), prune=False)

    def check(self) -> None:
        """There is nothing to read back."""

    def _shared(self) -> Bundle:
        """`new` without the stages and trees that `old` has not: those are gone by now, and begin anew."""
        from runtime.counters import chain_of

        places = {(counter.stage, chain_of(counter)) for counter in self.old.counters}
        trees, families = {(tree.nic, tree.direction) for tree in self.old.trees}, {table.family for table in self.old.nft}
        return msgspec.structs.replace(
            self.new,
            counters=tuple(counter for counter in self.new.counters if (counter.stage, chain_of(counter)) in places),
            trees=tuple(tree for tree in self.new.trees if (tree.nic, tree.direction) in trees),
            nft=tuple(table for table in self.new.nft if table.family in families),
        )
