"""Fixtures for every test; those that need privilege are in tests/kernel."""

from __future__ import annotations

import os
import secrets

import pytest


@pytest.fixture
def unique() -> str:
    """A short name that no other test, worker or run has: prefix of whatever a test creates outside its tmp_path."""
    return f"nt{os.getpid()}{secrets.token_hex(2)}"
