"""Fixtures for every test; those that need privilege are in tests/kernel."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("netc", deadline=None, suppress_health_check=[HealthCheck.too_slow])  # no test is one of time: the machine may be busy
settings.load_profile("netc")


@pytest.fixture(scope="session", autouse=True)
def programs_of_this_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """`netc` keeps compiled programs (runtime.programs): those of a test run end with it."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture
def unique() -> str:
    """A short name that no other test, worker or run has: prefix of whatever a test creates outside its tmp_path."""
    return f"nt{os.getpid()}{secrets.token_hex(2)}"
