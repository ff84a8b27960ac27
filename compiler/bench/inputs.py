"""What can be measured besides a policy: a ClassBench filter set, a list of prefixes. Each becomes a policy in the working directory."""

from __future__ import annotations

import gzip
import itertools
from pathlib import Path

from compiler import import_classbench

_ONE_SET = """\
nic port { device eth0 }
set listed = file "prefixes.txt"
filter port in {
  drop src in listed  as listed
  default pass
}
"""


def policy(file: Path, kind: str, first: int = 0, protocols: list[str] | None = None) -> Path:
    """A policy's path. kind: policy, classbench, prefixes (.gz too); first: only so many filters or prefixes, 0 for all.

    Writes into the working directory, which is the compiler child's own. Raises ImportFailed, OSError.
    """
    if kind == "policy":
        return file
    place = Path("bench.netc").absolute()
    if kind == "classbench":
        filters = import_classbench.read(file, import_classbench.replaced_protocols(protocols or []))
        place.write_text(import_classbench.policy(filters[: first or None], file.name))
        return place
    _copy_prefixes(file, first)
    place.write_text(_ONE_SET)
    return place


def _copy_prefixes(file: Path, first: int) -> None:
    with file.open("rb") as opened:
        packed = opened.read(2) == b"\x1f\x8b"
    try:
        with (gzip.open(file) if packed else file.open("rb")) as source, Path("prefixes.txt").open("wb") as target:
            target.writelines(itertools.islice(source, first or None))
    except (gzip.BadGzipFile, EOFError) as error:
        raise import_classbench.ImportFailed(f"{file}: it is cut or no gzip file: {error}") from None
