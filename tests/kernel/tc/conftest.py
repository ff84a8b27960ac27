"""Two namespaces and the cable between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.tc.shaped import Attached, Pair, wired


@pytest.fixture
def pair(make_netns: Callable[[], str], tmp_path: Path) -> Iterator[Pair]:
    with wired(make_netns(), make_netns(), tmp_path) as made:
        yield made


@pytest.fixture
def attached(pair: Pair) -> Iterator[Attached]:
    made = Attached(pair)
    yield made
    made.close()
