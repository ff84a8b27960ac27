"""A lab of a test's own, with the command line of netc in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from runtime.lab import build, netns
from runtime.lab.lab import Lab
from tests.kernel.policies.bench import Bench


@pytest.fixture
def bench(unique: str) -> Iterator[Bench]:
    """A fresh lab, removed and proved gone."""
    names = build.up(unique, queues=4)
    try:
        yield Bench(Lab(names))
    finally:
        build.down(unique)
    assert not names.directory.exists()
    assert not [name for name in names.namespaces if netns.exists(name)]
