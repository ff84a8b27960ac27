"""One host a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.apply import hosts
from tests.kernel.apply.hosts import Host


@pytest.fixture
def host(make_netns: Callable[[], str], tmp_path: Path) -> Iterator[Host]:
    with hosts.host(make_netns, tmp_path) as made:
        yield made
