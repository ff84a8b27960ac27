"""Crash tests need what kernel tests need."""

from __future__ import annotations

import os

import pytest

from tests.kernel.apply.conftest import host
from tests.kernel.conftest import make_netns

__all__ = ["host", "make_netns"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Without root every crash test is skipped, and counted as skipped, with the reason."""
    if os.geteuid() != 0:
        for item in items:
            if "tests/crash" in str(item.path):
                item.add_marker(pytest.mark.skip(reason="needs root: network namespaces and bpf(2)"))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """What the sweep of system calls covered, also where it passed."""
    from tests.crash import sweep

    reports = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    told = [value for report in reports for name, value in getattr(report, "user_properties", ()) if name == "sweep"]
    if told:
        terminalreporter.section("system calls cut short")
        terminalreporter.write_line(sweep.summary([sweep.Tally(**each) for each in told]))
