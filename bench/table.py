"""The README's table of what judging a packet costs: `python bench/table.py DATA` prints it as Markdown.

DATA holds classbench/*_10k.gz and prefixes/*.gz. Every cell is the median of `netc bench`'s differences to the parse-only floor, in one run.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
FLOWS = (1, 4096, 65536)


def works(data: Path) -> list[tuple[str, list[str]]]:
    """What stands in the first column, and the arguments that measure it."""
    sets = [(f"ClassBench {path.name.removesuffix('.gz')}", ["--classbench", str(path)]) for path in sorted(data.glob("classbench/*_10k.gz"))]
    tables = [(f"one set: {path.name.removesuffix('.txt.gz')}", ["--prefixes", str(path)]) for path in sorted(data.glob("prefixes/*.gz"))]
    return [("12 rules (bench/small.netc)", [str(ROOT / "bench/small.netc")]), *sets, *tables]


def measure(arguments: list[str]) -> dict[str, object]:
    command = [sys.executable, "-m", "runtime.cli", "bench", *arguments, "--flows", ",".join(map(str, FLOWS)), "--seconds", "1", "--json"]
    found: dict[str, object] = json.loads(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout)
    return found


def row(name: str, found: dict[str, object]) -> str:
    results = found["results"]
    assert isinstance(results, list)
    over = {(item["scenario"], item["flows"]): item["over_floor"]["median"] for item in results if item["subject"] == "netc"}
    cells = [f"{over['hits', flows]:+.0f}" for flows in FLOWS]
    worst = f"{over['worst', FLOWS[-1]]:+.0f}" if ("worst", FLOWS[-1]) in over else "-"
    return f"| {name} | {found['rules']:,} | {' | '.join(cells)} | {worst} |"


def main() -> None:
    heads = [f"{flows:,} flow{'s' if flows > 1 else ''}" for flows in FLOWS]
    print(f"| work | rules | {' | '.join(heads)} | last rule, {FLOWS[-1]:,} flows |\n|---|--:|{'--:|' * (len(FLOWS) + 1)}")
    for name, arguments in works(Path(sys.argv[1])):
        print(row(name, measure(arguments)), flush=True)


if __name__ == "__main__":
    main()
