"""Fixtures of tests that need root: namespaces and labs of their own, removed and proved gone also when a test fails."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from runtime.lab import netns as netns_module
from tests.kernel import reduced

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without root every kernel test is skipped, and counted as skipped, with the reason."""
    if os.geteuid() == 0:
        return
    for item in items:
        if _HERE in item.path.parents:
            item.add_marker(pytest.mark.skip(reason="needs root: network namespaces and bpf(2)"))


@pytest.fixture(autouse=True)
def capabilities(request: pytest.FixtureRequest) -> Iterator[None]:
    """With NETC_TEST_CAPS=1 netc has three capabilities, and what the test's marker `needs` names."""
    with reduced.needing(request.node):
        yield


@pytest.fixture
def make_netns(unique: str) -> Iterator[Callable[[], str]]:
    """A function that makes one more namespace and returns its name."""
    made: list[str] = []

    def make() -> str:
        name = f"{unique}n{len(made)}"
        netns_module.create(name)
        made.append(name)
        return name

    yield make
    for name in made:
        if netns_module.exists(name):
            netns_module.delete(name)
    left = [name for name in netns_module.names() if name.startswith(unique)]
    assert not left, f"namespaces left behind: {left}"


@pytest.fixture
def netns(make_netns: Callable[[], str]) -> str:
    """The name of one fresh namespace; use `with runtime.lab.netns.enter(netns):`."""
    return make_netns()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """With NETC_TEST_CAPS=1: which tests needed more than the three capabilities, counted by what they needed."""
    if reduced.ON:
        for need, tests in sorted(reduced.counted.items()):
            terminalreporter.write_line(f"needs {need} ({', '.join(reduced.MORE[need])}): {len(tests)} tests")
