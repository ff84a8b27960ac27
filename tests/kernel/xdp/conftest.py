"""A wire of two namespaces for tests that attach programs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.xdp.wire import Wire, wired


@pytest.fixture
def wire(make_netns: Callable[[], str], tmp_path: Path) -> Iterator[Wire]:
    with wired(make_netns(), make_netns(), tmp_path) as made:
        yield made
