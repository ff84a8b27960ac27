"""A lab of a test's own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runtime.lab import build, netns
from runtime.lab.lab import Lab


@pytest.fixture
def lab(unique: str) -> Iterator[Lab]:
    """A fresh lab, removed and proved gone."""
    names = build.up(unique, queues=2)
    try:
        yield Lab(names)
    finally:
        build.down(unique)
    assert not names.directory.exists()
    assert not [name for name in names.namespaces if netns.exists(name)]
