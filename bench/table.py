"""The README's table of what judging a packet costs, in as many runs as one likes.

`python bench/table.py DATA` measures every row and prints the table as Markdown; `--rows acl1,acl2` only those, and `--measured FILE` keeps rows, one JSON
line each, so that later runs print those of earlier ones too (a row that is measured again replaces its line). `--rows none` measures nothing.
DATA holds classbench/*_10k.gz and prefixes/*.gz. A row takes under a minute; every cell is the median of `netc bench`'s differences to the parse-only
floor, in one run. Rows of several runs are comparable as far as the machine was as idle in each.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
FLOWS = (1, 4096, 65536)
STANDS_FOR = {"fw4": ["--protocol", "7=tcp", "--protocol", "8=udp"]}  # anonymised protocols, by the ports they come with


@dataclass(frozen=True)
class Row:
    """name: as --rows takes it; hits: ns over the floor by FLOWS; worst: of the last rule, with the most flows; None where no flow meets one."""

    name: str
    title: str
    rules: int
    hits: tuple[float, ...]
    worst: float | None

    def markdown(self) -> str:
        cells = [*(f"{value:+.0f}" for value in self.hits), "-" if self.worst is None else f"{self.worst:+.0f}"]
        return f"| {self.title} | {self.rules:,} | {' | '.join(cells)} |"


def works(data: Path) -> dict[str, tuple[str, list[str]]]:
    """By name what stands in the first column, and the arguments that measure it; in the table's order."""
    found = {"small": ("12 rules (bench/small.netc)", [str(ROOT / "bench/small.netc")])}
    for path in sorted(data.glob("classbench/*_10k.gz")):
        name = path.name.removesuffix("_10k.gz")
        found[name] = f"ClassBench {name}_10k", ["--classbench", str(path), *STANDS_FOR.get(name, [])]
    for path in sorted(data.glob("prefixes/*.gz")):
        name = path.name.removesuffix(".txt.gz")
        found[name] = f"one set: {name}", ["--prefixes", str(path)]
    return found


def measure(name: str, title: str, arguments: list[str]) -> Row:
    """Raises SystemExit with the command's words where it failed."""
    command = [sys.executable, "-m", "runtime.cli", "bench", *arguments, "--flows", ",".join(map(str, FLOWS)), "--seconds", "1", "--json"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{name}: {done.stderr.strip()}")
    return row(name, title, json.loads(done.stdout))


def row(name: str, title: str, found: dict[str, object]) -> Row:
    """A row out of the document of `netc bench --json`."""
    results = found["results"]
    assert isinstance(results, list)
    over = {(item["scenario"], item["flows"]): item["over_floor"]["median"] for item in results if item["subject"] == "netc"}
    rules = found["rules"]
    assert isinstance(rules, int)
    return Row(name, title, rules, tuple(over["hits", flows] for flows in FLOWS), over.get(("worst", FLOWS[-1])))


def kept(file: Path | None) -> dict[str, Row]:
    """The rows of earlier runs; of two with one name the later."""
    if file is None or not file.exists():
        return {}
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    return {line["name"]: Row(line["name"], line["title"], line["rules"], tuple(line["hits"]), line["worst"]) for line in lines}


def table(rows: dict[str, Row], order: list[str]) -> str:
    heads = [f"{flows:,} flow{'s' if flows > 1 else ''}" for flows in FLOWS]
    lines = [f"| work | rules | {' | '.join(heads)} | last rule, {FLOWS[-1]:,} flows |", f"|---|--:|{'--:|' * (len(FLOWS) + 1)}"]
    return "\n".join([*lines, *(rows[name].markdown() for name in order if name in rows)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, metavar="DATA")
    parser.add_argument("--rows", default="all", metavar="NAMES", help="all, none, or some, by commas")
    parser.add_argument("--measured", type=Path, metavar="FILE")
    options = parser.parse_args()
    known = works(options.data)
    wanted = {"all": [*known], "none": []}.get(options.rows, options.rows.split(","))
    if unknown := [name for name in wanted if name not in known]:
        parser.error(f"there is no row {', '.join(unknown)}; there are {', '.join(known)}")
    rows = kept(options.measured)
    for name in wanted:
        print(f"measuring {name}", file=sys.stderr)
        rows[name] = measure(name, *known[name])
        if options.measured:
            options.measured.write_text("".join(json.dumps(asdict(item)) + "\n" for item in rows.values()))
    print(table(rows, [*known]))


if __name__ == "__main__":
    main()
