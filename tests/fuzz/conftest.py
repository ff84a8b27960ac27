"""Some of the fuzzing asks the kernel: in namespaces of its own, as root."""

from __future__ import annotations

from tests.kernel.conftest import make_netns

__all__ = ["make_netns"]
