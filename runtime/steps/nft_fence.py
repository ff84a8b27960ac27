"""The steps that let the new later rules judge beside the old ones while XDP and nft are flipped (compiler/targets/nft_fence.py says why).

The fence is a table of its own, so that neither it nor the swap has to know what the other holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from compiler.bundle import Bundle, Nft
from runtime.backends import nft as backend
from runtime.backends.nft import Json, NftError
from runtime.context import Context
from runtime.steps import Step, StepError, nft_phases
from runtime.steps.nft_content import OWNER, TABLE, added, fill

FENCE = "netc-fence"


def fences(context: Context, new: Bundle | None, old: Bundle | None, generation: int) -> tuple[list[Step], list[Step]]:
    """What goes before XDP's flip and what behind nft's; nothing on a host where nothing was judged before."""
    if new is None or old is None:
        return [], []
    found = [_Fence(context, table, generation) for table in new.nft if table.fence]
    return [_Up(fence) for fence in found], [_Down(fence) for fence in found]


def remove_stray() -> None:
    """A fence that an unfinished apply has left, when that apply is given up. Raises StepError."""
    for family in ("inet", "netdev"):
        fence = _Fence(Context(Path(), Path()), Nft(family, TABLE, (), (), ()), 0)
        if fence.there():
            fence.take()


@dataclass(frozen=True, slots=True)
class _Fence:
    context: Context
    table: Nft
    generation: int

    def put(self) -> None:
        """Anew; its chain at the hook comes when the sets that it asks are there (steps/nft_phases.py says why). Raises StepError."""
        self._refuse_foreign()
        commands = fill(Nft(self.table.family, TABLE, self.table.fence), self.context, self.generation)
        hooked = nft_phases.base_chains(map(added, commands))
        _run([*self._gone(), *(_renamed(each) for each in commands if not nft_phases.is_in(each, hooked))], "nft: make a fence")
        try:
            _run([_renamed(each) for each in commands if nft_phases.is_in(each, hooked)], "nft: fence off what XDP hands on")
        except StepError:
            _run(self._gone(), "nft: remove the fence")  # a refusal leaves nothing behind
            raise

    def take(self) -> None:
        """From its hook first. Raises StepError."""
        self._refuse_foreign()
        if self.there():
            hooked = nft_phases.base_chains(backend.list_table(self.table.family, FENCE))
            _run(nft_phases.deletion(self.table.family, hooked, FENCE), "nft: take the fence away")
        _run(self._gone(), "nft: remove the fence")

    def there(self) -> bool:
        try:
            return (self.table.family, FENCE) in backend.tables()
        except NftError as error:
            raise StepError(f"nft table {self.table.family} {FENCE}", str(error)) from None

    def _gone(self) -> list[Json]:
        """Adding it first lets the deletion never fail."""
        table = {"table": {"family": self.table.family, "name": FENCE}}
        return [{"add": table}, {"delete": table}]

    def _refuse_foreign(self) -> None:
        if not self.there():
            return
        if OWNER not in backend.names(backend.list_table(self.table.family, FENCE), "chain"):
            mend = f"rename or delete it: nft delete table {self.table.family} {FENCE}"
            raise StepError(f"nft table {self.table.family} {FENCE}", "it is there and netc did not make it", mend)


@dataclass(slots=True)
class _Up:
    """The fence comes, before XDP's flip."""

    fence: _Fence
    phase: str = "flip"
    flips: str = "fence"
    text: str = "nft: the new later rules also judge what XDP hands on"

    def do(self) -> None:
        self.fence.put()

    def undo(self) -> None:
        self.fence.take()

    def check(self) -> None:
        """It is gone again when the steps are checked."""


@dataclass(slots=True)
class _Down:
    """The fence goes, after nft's flip; it comes back while an apply is taken back."""

    fence: _Fence
    phase: str = "flip"
    flips: str = "fence off"
    text: str = "nft: the new later rules judge alone"

    def do(self) -> None:
        self.fence.take()

    def undo(self) -> None:
        self.fence.put()

    def check(self) -> None:
        if self.fence.there():
            raise StepError(f"nft table {self.fence.table.family} {FENCE}", "it is still there", "apply again")


def _renamed(command: Json) -> Json:
    ((kind, body),) = command["add"].items()
    return {"add": {kind: {**body, "name" if kind == "table" else "table": FENCE}}}


def _run(commands: list[Json], what: str) -> None:
    try:
        backend.run(commands)
    except NftError as error:
        raise StepError(what, str(error), "the old rules are still in force; nothing was changed") from None
