"""Steps that keep a dynamic set free of what its `never` names, also when that comes to name more than before.

A program adds no member of `never`, but a set survives an apply, and `protect` is proved as if none were in it. So whoever is in it already is
refused, and named, before anything changes; who is added between that and the flip, still by the old program, is taken out after it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from compiler.bundle import Bundle, DynamicSet
from compiler.tables import members
from runtime import set_change, set_words, sets
from runtime.context import Context
from runtime.steps import StepError

_NAMED = 5  # addresses in a refusal


def steps(context: Context, new: Bundle, old: Bundle | None) -> list[RefuseStep | SweepStep]:
    """For the sets whose `never` may name more now. They come behind the step that opens the sets' maps."""
    kept = {item.name: _never(old, item) for item in old.sets} if old else {}
    if context.trial:
        _refuse_narrower(new, kept)
    wider = [item for item in new.sets if item.never and kept.get(item.name) != _never(new, item)]
    sweep = "flip" if context.trial else "clean"  # what is on trial is in force
    return [*(RefuseStep(context, new, item, old is None) for item in wider), *(SweepStep(context, new, item, sweep) for item in wider)]


def _refuse_narrower(new: Bundle, kept: Mapping[str, Mapping[str, bytes]]) -> None:
    """What the new policy adds stays in the set when the old one is back, which was proved as if it could not be there. Raises StepError."""
    for item in new.sets:
        have = _never(new, item).values()
        for name, want in kept.get(item.name, {}).items():
            left = want
            for ranges in have:
                left = members.encode(members.missing(ranges, left))
            if members.decode(left):
                words = f"`never {name}` keeps members out that this policy would put in; they would still be there when the trial ends"
                raise StepError(f"set {item.name}", words, f"write `never {name}` here, too; or apply it without --confirm")


def _never(bundle: Bundle, item: DynamicSet) -> dict[str, bytes]:
    return {each.name: each.ranges for each in bundle.static if each.name in item.never}


def _held(context: Context, bundle: Bundle, item: DynamicSet) -> Iterator[bytes]:
    """The live members that `never` names, as keys."""
    keys = {set_words.address(member.key): member.key for member in sets.members(context, bundle, item)}
    for ranges in _never(bundle, item).values():
        for address in members.held(ranges, list(keys)):
            yield keys.pop(address)


@dataclass(slots=True)
class RefuseStep:
    """Reads only. Raises StepError where a member is one that the set never takes. alone: no other policy's program was there to add one before the flip."""

    context: Context
    bundle: Bundle
    item: DynamicSet
    alone: bool
    phase: str = "stage"

    @property
    def text(self) -> str:
        return f"look for members of {self.item.name} that `never {', '.join(self.item.never)}` names"

    def do(self) -> None:
        found = sorted(map(set_words.ordinal, _held(self.context, self.bundle, self.item)))
        if found:
            words = " ".join(members.written(number) for number in found[:_NAMED])
            more = f" and {len(found) - _NAMED:,} more" if len(found) > _NAMED else ""
            raise StepError(f"set {self.item.name}", f"{words}{more} would be protected by `never {', '.join(self.item.never)}`, and stand in it",
                            f"take them out first: netc set del {self.item.name} {words}{' …' if more else ''}")  # fmt: skip

    def undo(self) -> None:
        """Nothing was changed."""

    def check(self) -> None:
        """The programs see to it from here on: who is in it now was put there by hand. What an old program added before the flip, SweepStep takes out."""
        if self.alone:
            self.do()


@dataclass(slots=True)
class SweepStep:
    """Takes out what the old program added after it was looked for."""

    context: Context
    bundle: Bundle
    item: DynamicSet
    phase: str = "clean"

    @property
    def text(self) -> str:
        return f"take members out of {self.item.name} that `never {', '.join(self.item.never)}` names"

    def do(self) -> None:
        found = list(_held(self.context, self.bundle, self.item))
        if found:
            set_change.change(self.context, self.bundle, self.item, set_change.Wish(leave=found))

    def undo(self) -> None:
        """Never asked: cleaning is not undone."""

    def check(self) -> None:
        """Nothing to read back: the programs see to it from here on."""
