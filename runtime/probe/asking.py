"""One question to a device: its answer, or the refusal in its own words, kept with what was asked as the evidence."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

Facts = dict[str, Any]
T = TypeVar("T")


def ask(facts: Facts, name: str, evidence: str, question: Callable[[], T], words: Callable[[T], Facts]) -> T | None:
    """Put the answer into the facts and give it; None and `supported: false` where the device refuses."""
    try:
        answer = question()
    except OSError as error:
        facts[name] = {"supported": False, "evidence": f"{evidence}: {refusal(error)}"}
        return None
    facts[name] = {**words(answer), "evidence": evidence}
    return answer


def refusal(error: OSError) -> str:
    """The kernel's sentence where there is one, else the errno's text."""
    return getattr(error, "words", None) or error.strerror or str(error)
