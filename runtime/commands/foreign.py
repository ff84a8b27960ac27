"""How what belongs to others is told: beside a plan, an apply, a status, and what a removal has put back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from compiler.bundle import Bundle
    from runtime.context import Context
    from runtime.outcome import Outcome


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


def put_back(outcome: Outcome) -> list[str]:
    """What a change gave back to its owners, in words."""
    left = {item.text for item in outcome.left}
    steps = (planned.step for planned in outcome.plan.steps) if outcome.plan else ()
    return [step.text for step in steps if getattr(step, "puts_back", False) and step.text not in left]
