"""One host and one working directory a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.kernel.apply import hosts
from tests.kernel.hostile.terminal import POLICY, Terminal


@pytest.fixture
def terminal(make_netns: Callable[[], str], tmp_path: Path) -> Iterator[Terminal]:
    """Nothing is installed."""
    (tmp_path / "work").mkdir()
    (tmp_path / "host").mkdir()
    with hosts.host(make_netns, tmp_path / "host") as made:
        yield Terminal(made, tmp_path / "work")


@pytest.fixture
def installed(terminal: Terminal) -> Terminal:
    """A good policy is installed: a refusal has to leave it in force."""
    terminal.done("apply", terminal.write("good.netc", POLICY))
    return terminal
