"""How what belongs to others is told: beside a plan, an apply, a status, and what a removal has put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compiler.bundle import Bundle
    from runtime.context import Context
    from runtime.outcome import Outcome
    from runtime.plan import Plan


def tell(context: Context, bundle: Bundle, warnings_only: bool = False) -> None:
    """On stderr: a note for each thing of others', a warning for what undoes the policy."""
    from runtime import foreign, output

    for item in foreign.survey(context, bundle):
        if item.warn:
            first, _, mend = item.words.partition("\n")
            output.show_warning(f"{item.where}: {first}" + (f" ({mend.strip().removeprefix('= help: ')})" if mend else ""))
        elif not warnings_only:
            output.show_note(f"{item.where}: {item.words}")


def as_json(context: Context, bundle: Bundle) -> dict[str, list[dict[str, Any]]]:
    """`foreign` and `kept` of `netc status --json`."""
    from dataclasses import asdict

    from runtime import foreign

    found = foreign.survey(context, bundle)
    return {"foreign": [asdict(item) for item in found], "kept": [{"device": device, "what": what} for device, what in foreign.kept(context)]}


def show(found: dict[str, list[dict[str, Any]]]) -> None:
    """The same as lines of `netc status`."""
    from runtime import output

    for item in found["kept"]:
        print(output.printable(f"kept        {item['what']}, taken over from {item['device']}: netc remove puts it back"))
    for item in found["foreign"]:
        print(output.printable(f"beside      {item['where']}: {item['words'].partition(chr(10))[0]}"))


def moved(plan: Plan | None) -> list[str]:
    """What a plan takes over from others or gives back to them, in words."""
    return [planned.step.text for planned in plan.steps if getattr(planned.step, "of_others", False)] if plan else []


def given_and_taken(outcome: Outcome) -> list[str]:
    """What a change took over from others, or gave back to them."""
    left = {item.text for item in outcome.left}
    return [text for text in moved(outcome.plan) if text not in left]
