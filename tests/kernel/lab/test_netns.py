"""Named namespaces: made, entered by one thread, left again whatever happens."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable

import pytest

from runtime.lab import netns as namespaces


def _here() -> int:
    return os.stat(namespaces.SELF).st_ino


def test_enter_changes_this_thread_and_returns(netns: str) -> None:
    before, elsewhere = _here(), []
    with namespaces.enter(netns):
        assert _here() == namespaces.identity(netns) != before
        other = threading.Thread(target=lambda: elsewhere.append(os.stat(f"/proc/self/task/{os.getpid()}/ns/net").st_ino))
        other.start()
        other.join()
    assert _here() == before
    assert netns in namespaces.names()


def test_enter_returns_after_an_error(netns: str) -> None:
    before = _here()
    with pytest.raises(RuntimeError), namespaces.enter(netns):
        raise RuntimeError
    assert _here() == before


def test_namespaces_nest(make_netns: Callable[[], str]) -> None:
    outer, inner = make_netns(), make_netns()
    with namespaces.enter(outer):
        with namespaces.enter(inner):
            assert _here() == namespaces.identity(inner)
        assert _here() == namespaces.identity(outer)


def test_a_name_is_taken_once_and_gone_once(unique: str) -> None:
    namespaces.create(unique)
    try:
        with pytest.raises(namespaces.NetnsError, match="File exists"):
            namespaces.create(unique)
    finally:
        namespaces.delete(unique)
    for use in (namespaces.delete, namespaces.identity):
        with pytest.raises(OSError, match=unique):
            use(unique)
    with pytest.raises(namespaces.NetnsError, match=f"enter network namespace {unique}"), namespaces.enter(unique):
        pass


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "-a", "a\nb", "a" * 101])
def test_a_name_cannot_leave_the_directory(name: str) -> None:
    with pytest.raises(namespaces.NetnsError, match="is no name for a network namespace"):
        namespaces.create(name)
