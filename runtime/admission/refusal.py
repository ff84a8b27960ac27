"""How a bundle is refused: what in it, why, and the one mend there is."""

from __future__ import annotations

from typing import NoReturn

from runtime.steps import StepError

COMPILE_AGAIN = "no netc compiler writes this: compile the policy again with this netc"


def refuse(what: str, words: str, mend: str = COMPILE_AGAIN) -> NoReturn:
    """Raises StepError: nothing was done yet."""
    raise StepError(f"the bundle's {what}" if not what.startswith("the bundle's ") else what, words, mend)
