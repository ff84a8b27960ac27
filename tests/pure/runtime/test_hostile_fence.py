"""The fence of an nft table is admitted by the same list as the table itself."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from compiler.bundle import Nft
from runtime.admission.nft import check_nft
from runtime.steps import StepError

TABLE: dict[str, Any] = {"add": {"table": {"family": "inet", "name": "netc"}}}
HOSTILE: list[dict[str, Any]] = [
    {"flush": {"ruleset": None}},
    {"add": {"table": {"family": "inet", "name": "other"}}},
    {"add": {"rule": {"family": "inet", "table": "netc", "chain": "elsewhere", "expr": [{"accept": None}]}}},
    {"add": {"chain": {"family": "inet", "table": "netc", "name": "c", "type": "nat", "hook": "prerouting", "prio": -199, "policy": "accept"}}},
]


def table(*fence: dict[str, Any]) -> Nft:
    raw = [msgspec.Raw(msgspec.json.encode(item)) for item in (TABLE, *fence)]
    return Nft("inet", "netc", (raw[0],), (), tuple(raw))


def test_a_plain_fence_is_admitted() -> None:
    check_nft(table(), {"wan"})


@pytest.mark.parametrize("command", HOSTILE)
def test_a_fence_that_does_more_is_refused(command: dict[str, Any]) -> None:
    with pytest.raises(StepError, match="fence"):
        check_nft(table(command), {"wan"})
