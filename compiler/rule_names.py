"""Names of rules that were not given one: from their own text, so that they stay when lines are inserted above."""

from __future__ import annotations

import hashlib
import re

from compiler.scope import MAX_NAME, RESERVED

_DIGEST = 6  # hexadecimal digits that tell long texts apart


def from_text(text: str) -> str:
    """A legal name made of the rule's words: `drop udp dport 53` is drop-udp-dport-53. Long texts end in a digest of the whole."""
    name = re.sub(r"[^A-Za-z0-9_]+", "-", text).strip("-") or "rule"
    if len(name) > MAX_NAME:
        digest = hashlib.sha256(text.encode()).hexdigest()[:_DIGEST]
        name = f"{name[: MAX_NAME - _DIGEST - 1].rstrip('-')}-{digest}"
    return f"{name}-" if name in RESERVED else name
