"""One host a test, with a policy whose sets are filled by rules and by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.apply import hosts
from tests.kernel.sets.policy import POLICY, Live


@pytest.fixture
def live(make_netns: Callable[[], str], tmp_path: Path) -> Iterator[Live]:
    with hosts.host(make_netns, tmp_path) as made:
        live = Live(made)
        live.apply(POLICY)
        yield live
