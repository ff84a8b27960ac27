"""How a change of what is installed is told: its steps while they are done, its result, its warnings."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from runtime.outcome import Outcome, Report
    from runtime.steps import Step


_DONE = {"rollback": "rolled back", "confirm": "confirmed"}


def reporter(as_json: bool) -> Report:
    """Progress on stderr, a line a step; only what changes something or takes it back, not every check."""

    def report(what: str, step: Step) -> None:
        from runtime import output

        if what in ("do", "undo") and not as_json:
            mark = output.paint("undo ", "yellow", sys.stderr) if what == "undo" else output.paint(f"{step.phase:5}", "dim", sys.stderr)
            print(f"  {mark}  {output.printable(step.text)}", file=sys.stderr)

    return report


def warn(outcome: Outcome) -> None:
    """What was recovered and what could not be cleaned up, on stderr."""
    from runtime import output

    for text in outcome.recovered:
        output.show_warning(text)
    for left in outcome.left:
        output.show_warning(f"not cleaned up: {left.text}: {left.words}")
    for text in (text for item in (outcome.plan.steps if outcome.plan else ()) for text in getattr(item.step, "warnings", ())):
        output.show_warning(text)


def show(outcome: Outcome, command: str, json: bool) -> None:
    """The result of a change, as lines or as one JSON document; warnings on stderr."""
    from runtime import output

    warn(outcome)
    for skipped in outcome.plan.skipped if outcome.plan else ():
        if not json:
            print(f"skipped  {output.printable(skipped.text)}: {output.printable(skipped.words)}")
    for what, words in _rounded(outcome):
        if not json:
            print(output.printable(f"rounded  {what}: {words}"))
    if json:
        output.show_json(as_json(outcome, command))
        return
    from runtime.commands import foreign

    for text in foreign.given_and_taken(outcome):
        print(output.printable(text))
    for text in _on_nics(outcome):
        print(output.printable(text))
    print(_line(outcome, command))
    if outcome.trial:
        end = time.strftime("%H:%M:%S", time.localtime(time.time() + outcome.trial))
        print(f"on trial until {end} ({outcome.trial:g} s): netc confirm keeps it; without it the policy before is back then")


def _on_nics(outcome: Outcome) -> Iterator[str]:
    """Which rules a NIC judges itself, and why not the others that drop."""
    bundle = outcome.plan.new if outcome.plan else None
    nics = {f"{item.nic}.in" for item in (bundle.offloads if bundle else ())}
    for item in bundle.placements if bundle else ():
        if item.what.rpartition(".")[0] in nics and item.reason.startswith("not on the NIC: "):
            yield f"on host  {item.what}: {item.reason.removeprefix('not on the NIC: ')}"
    for offload in bundle.offloads if bundle else ():
        when = ", once it is confirmed" if outcome.trial else ""
        yield f"on NIC   {', '.join(offload.counters)}{when}"


def as_json(outcome: Outcome, command: str) -> dict[str, object]:
    """What the change did, as JSON has it."""
    import msgspec

    from runtime.commands import foreign

    return {
        "command": command,
        "changed": outcome.changed,
        "generation": outcome.record.generation,
        "installed": msgspec.to_builtins(outcome.record.current),
        "steps": [p.step.text for p in outcome.plan.steps] if outcome.plan else [],
        "skipped": [{"text": s.text, "words": s.words} for s in outcome.plan.skipped] if outcome.plan else [],
        "rounded": [{"what": what, "words": words} for what, words in _rounded(outcome)],
        "left": [{"text": left.text, "words": left.words} for left in outcome.left],
        "recovered": list(outcome.recovered),
        "trial": outcome.trial,
        "of_others": foreign.given_and_taken(outcome),
    }


def _rounded(outcome: Outcome) -> list[tuple[str, str]]:
    from runtime.steps import rounding

    return rounding.of_steps(outcome.plan.ordered()) if outcome.plan else []


def _line(outcome: Outcome, command: str) -> str:
    from runtime import output

    current = outcome.record.current
    if current is None:
        return "removed: nothing of netc is installed" if outcome.changed else "nothing to do: nothing of netc is installed"
    bound = ", ".join(f"{nic} on {device}" for nic, device in current.bindings.items())
    what = f"{current.policy} ({current.bundle[:12]}), generation {current.generation}, {bound}"
    return output.printable(f"{_DONE.get(command, 'applied')}: {what}" if outcome.changed else f"nothing to do: {what} is installed and unchanged")
