"""A plan as people read it: what was changed outside netc, what changes by backend, what is interrupted, which windows there are, the sum."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from compiler.bundle import Bundle
from runtime import output
from runtime.disruption import Disruption
from runtime.plan_entry import Entry, counts
from runtime.plan_windows import Window

if TYPE_CHECKING:
    from runtime.plan import Plan
    from runtime.verify import Finding

SHOWN = 12  # lines of a backend; of more, only how many
_WIDE = 100  # characters of a text that is printed
_WRAPPED = 140  # characters of a line of prose
_BACKENDS = ("settings", "sets", "xdp", "nft", "tc", "expect")
_HEADS = {"settings": "settings", "sets": "sets", "xdp": "XDP", "nft": "nftables", "tc": "tc", "expect": "expectations"}
_COLOURS = {"+": "green", "~": "yellow", "-": "red"}


@dataclass(frozen=True, slots=True)
class View:
    """All that `netc plan` shows. planned None: nothing would change. since: what is installed now, in words. kept: why drift stays as it is, or ""."""

    bundle: Bundle | None
    planned: Plan | None
    entries: Sequence[Entry] = ()
    drift: Sequence[Finding] = ()
    disruptions: Sequence[Disruption] = ()
    windows: Sequence[Window] = ()
    since: str = ""
    kept: str = ""
    notes: Sequence[str] = field(default=())


def lines(view: View, long: bool) -> Iterator[str]:
    """The text, line by line. long: nothing is shortened, with every step, and the reason for every place."""
    if view.drift:
        yield output.paint(f"changed outside netc since {view.since}; {view.kept or 'apply puts it back'}", "bold")
        yield from _shortened([f"  ! {f.where}: {f.what}: {f.detail}" for f in view.drift], long, "red")
        yield ""
    for backend in _BACKENDS:
        mine = [entry for entry in view.entries if entry.backend == backend]
        if mine:
            yield output.paint(_HEADS[backend], "bold")
            yield from _entries(mine, long)
            yield ""
    yield from _told("of others", _others(view.planned))
    yield from _told("interrupts traffic", [_disruption(item) for item in view.disruptions])
    if view.planned and (view.planned.old is not None or view.planned.new is not None):
        yield from _told("windows", [f"{item.backend:8}  {item.words}" for item in view.windows])
    yield from _told("not to be had here, and left out", _skipped(view.planned, long))
    if long:
        yield from _long(view)
    for note in view.notes:
        yield output.printable(note)
    yield summary(view)


def summary(view: View) -> str:
    """The last line."""
    if view.planned is None:
        return "nothing would change"
    added, changed, removed = counts(list(view.entries))
    drifted = f"; {len(view.drift)} drifted" if view.drift else ""
    steps = len(view.planned.steps)
    return output.paint(f"Plan: {added:,} to add, {changed:,} to change, {removed:,} to remove{drifted}", "bold") + f" ({steps} step{'s' * (steps != 1)})"


def as_json(view: View) -> dict[str, Any]:
    """The whole plan, as docs/commands.md describes it."""
    planned = view.planned
    steps = planned.steps if planned else ()
    added, changed, removed = counts(list(view.entries))
    interrupts = {item.text: item for item in view.disruptions}
    return {
        "changes": bool(steps),
        "generation": planned.generation if planned else None,
        "summary": {"add": added, "change": changed, "remove": removed, "drifted": len(view.drift)},
        "drift": [{"what": f.what, "where": f.where, "detail": f.detail} for f in view.drift],
        "entries": [_entry_json(entry) for entry in view.entries],
        "steps": [
            {"phase": p.step.phase, "backend": p.backend, "text": p.step.text,
             "disruptive": interrupts[p.step.text].outage.words if p.step.text in interrupts else ""} for p in steps
        ],
        "disruptive": [{"step": d.text, "device": d.device, "driver": d.driver, "outage": d.outage.words, "source": d.outage.source,
                        "needs_allow_disruptive": d.outage.asks} for d in view.disruptions],
        "windows": [{"backend": item.backend, "words": item.words} for item in view.windows],
        "skipped": [{"text": s.text, "words": s.words} for s in (planned.skipped if planned else ())],
        "placements": [{"what": p.what, "stage": p.stage, "reason": p.reason, "file": p.file, "line": p.line}
                       for p in (view.bundle.placements if view.bundle else ())],
    }  # fmt: skip


def _entry_json(entry: Entry) -> dict[str, Any]:
    return {"backend": entry.backend, "sign": entry.sign, "kind": entry.kind, "name": entry.name, "text": entry.text, "was": entry.was, "note": entry.note,
            "file": entry.file, "line": entry.line}  # fmt: skip


def _entries(entries: Sequence[Entry], long: bool) -> Iterator[str]:
    """Aligned by the names that are shown. Programs and tables come last: they are what carries the rest."""
    ordered = [entry for entry in entries if entry.kind not in ("program", "table")]
    carriers = [entry for entry in entries if entry.kind in ("program", "table")]
    shown = ordered if long or len(ordered) <= SHOWN else ordered[: SHOWN - 1]
    width = max((len(entry.name) for entry in shown), default=0)
    for entry in shown:
        yield _line(entry, width, long)
    if len(shown) < len(ordered):
        yield f"  … and {len(ordered) - len(shown):,} more (netc plan --long has all)"
    for entry in carriers:
        yield _line(entry, 0, long)


def _line(entry: Entry, width: int, long: bool) -> str:
    text, was = (words if long or len(words) <= _WIDE else words[: _WIDE - 1] + "…" for words in (entry.text, entry.was))
    parts = [entry.name.ljust(width), f"{was} → {text}" if was else text, f"({entry.note})" if entry.note else "", output.place(entry.file, entry.line)]
    words = output.printable("  ".join(part for part in parts if part)).rstrip()
    return f"  {output.paint(entry.sign, _COLOURS[entry.sign])} {words}"


def _shortened(texts: Sequence[str], long: bool, colour: str) -> Iterator[str]:
    shown = texts if long or len(texts) <= SHOWN else texts[: SHOWN - 1]
    for text in shown:
        yield output.paint(output.printable(text), colour)
    if len(shown) < len(texts):
        yield f"  … and {len(texts) - len(shown):,} more (netc plan --long has all)"


def _others(planned: Plan | None) -> list[str]:
    """What is taken over from somebody else, or put back: steps that are theirs as much as ours."""
    steps = planned.ordered() if planned else []
    return [step.text for step in steps if getattr(step, "of_others", False)]


def _skipped(planned: Plan | None, long: bool) -> list[str]:
    """Once for each text of the policy; what else of it is refused, only with `long`."""
    told: dict[str, list[str]] = {}
    for item in planned.skipped if planned else ():
        told.setdefault(item.text, []).append(item.words)
    return [f"{text}: {'; '.join(words if long else words[:1])}" for text, words in told.items()]


def _told(head: str, texts: Sequence[str]) -> Iterator[str]:
    if texts:
        yield output.paint(head, "bold")
        for text in texts:
            yield from textwrap.wrap(output.printable(text), _WRAPPED, initial_indent="  ", subsequent_indent="      ", break_long_words=False)
        yield ""


def _disruption(item: Disruption) -> str:
    asked = "; apply needs --allow-disruptive" if item.outage.asks else ""
    return f"{item.text}: {item.driver or 'unknown driver'}: {item.outage.words}{asked}"


def _long(view: View) -> Iterator[str]:
    if view.bundle is not None and view.bundle.placements:
        rows = [[p.what, p.stage, p.reason, output.place(p.file, p.line)] for p in view.bundle.placements]
        yield output.table(["what", "where", "why", "line"], rows) + "\n"
    if view.planned is None:
        return
    yield output.paint("steps", "bold")
    for item in view.planned.steps:
        yield output.printable(f"  {item.step.phase:5}  {item.backend:8}  {item.step.text}")
    yield ""
