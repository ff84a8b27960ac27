"""The name that was likely meant, for "did you mean"."""

from __future__ import annotations

from collections.abc import Iterable

MAX_WORD = 64  # characters: nothing longer is a slip of the fingers


def closest(word: str, known: Iterable[str]) -> str | None:
    """The known name nearest to `word`, None when none is near. Swapped letters count for less than other letters."""
    best, best_score = None, 0.65
    if len(word) > MAX_WORD:
        return None
    import difflib  # only for a message

    for name in sorted(known):
        score = difflib.SequenceMatcher(None, word.lower(), name.lower()).ratio()
        score += 0.1 * (sorted(word) == sorted(name)) + 0.02 * (word[:1] == name[:1])
        if score > best_score and word != name:
            best, best_score = name, score
    return best


def hint(word: str, known: Iterable[str], otherwise: str = "") -> str:
    """A help text: the likely name, else the known ones when they are few, else `otherwise`."""
    names = sorted(known)
    if meant := closest(word, names):
        return f"did you mean `{meant}`?"
    if otherwise or not names:
        return otherwise
    return "known here: " + ", ".join(f"`{name}`" for name in names[:12]) + (" …" if len(names) > 12 else "")
