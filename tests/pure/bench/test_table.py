"""The README's table is put together out of rows of several runs."""

from __future__ import annotations

import importlib.util
import json
import sys
from dataclasses import asdict
from pathlib import Path
from types import ModuleType

import pytest

FILE = Path(__file__).parents[3] / "bench" / "table.py"


@pytest.fixture(scope="module")
def table() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_table", FILE)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_table"] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


def document(table: ModuleType, hits: float, worst: bool) -> dict[str, object]:
    cells = [("hits", flows, hits) for flows in table.FLOWS] + [("worst", table.FLOWS[-1], 9.6)] * worst
    results = [{"scenario": s, "flows": n, "subject": who, "over_floor": {"median": value}} for s, n, value in cells for who in ("netc", "by hand")]
    return {"rules": 1234, "results": results}


def test_rows_of_earlier_runs_stay_and_the_later_of_two_counts(table: ModuleType, tmp_path: Path) -> None:
    rows = [table.row("a", "first", document(table, 7.4, True)), table.row("b", "second", document(table, 20.0, False)), table.row("a", "first", document(table, 5.0, True))]
    (tmp_path / "rows").write_text("".join(json.dumps(asdict(item)) + "\n" for item in rows))
    found = table.kept(tmp_path / "rows")
    assert table.table(found, ["b", "c", "a"]).splitlines()[2:] == ["| second | 1,234 | +20 | +20 | +20 | - |", "| first | 1,234 | +5 | +5 | +5 | +10 |"]
    assert table.kept(None) == table.kept(tmp_path / "none") == {}


def test_every_set_has_a_row(table: ModuleType, tmp_path: Path) -> None:
    for name in ("classbench/fw4_10k.gz", "classbench/acl3_10k.gz", "classbench/acl3_1k.gz", "prefixes/bgp.txt.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    works = table.works(tmp_path)
    assert [*works] == ["small", "acl3", "fw4", "bgp"]
    assert works["fw4"][1][-1] == "8=udp" and works["bgp"][1][0] == "--prefixes"
