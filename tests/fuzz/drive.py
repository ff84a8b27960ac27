"""Fuzzes one target of tests/fuzz/targets.py with atheris (libFuzzer): as `python -m tests.fuzz.drive TARGET SECONDS SEED DIRECTORY`.

Seeds are the target's own and what lies in tests/fuzz/corpus/TARGET. What is found anew stays in DIRECTORY/corpus. A crash, an input that takes longer than
HANG or more memory than MEMORY is written to DIRECTORY, and the exit status is not 0. Mutations are bytes' and, half of the time, the format's.
"""

from __future__ import annotations

import hashlib
import random
import resource
import sys
from pathlib import Path

HANG = 5  # seconds
MEMORY = 1024  # MiB
LONGEST = 1 << 16  # bytes of an input
COVERED = {  # packages or modules whose branches guide a target; to count those of all of netc would take seconds before the first input
    "bundle": ["compiler.bundle", "runtime.admission"], "change": ["compiler.bundle", "compiler.tables.changes"], "state": ["runtime.state", "runtime.journal"],
    "packets": ["runtime.lab.packets"], "import": ["compiler.import_classbench"], "capture": ["compiler.tables.capture", "dpkt"],
    "profile": ["compiler.profile"], "plan": ["runtime.plan_file", "compiler.bundle", "runtime.binding"], "members": ["runtime.set_words", "compiler.tables.members"],
    "policy": ["compiler.lalr", "compiler.parse", "compiler.syntax_errors", "compiler.resolve", "compiler.check", "compiler.findings", "compiler.lines", "compiler.scope"],
}  # fmt: skip
CORPUS = Path(__file__).parent / "corpus"


def main(name: str, seconds: str, seed: str, directory: str) -> None:
    """Never returns: libFuzzer ends the process."""
    import atheris

    with atheris.instrument_imports(include=COVERED[name]):
        from tests.fuzz.targets import TARGETS, run
    target = TARGETS[name]
    grown = Path(directory) / "corpus"
    grown.mkdir(parents=True, exist_ok=True)
    for data in target.seeds():
        (grown / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)

    def mutate(data: bytes, longest: int, number: int) -> bytes:
        rng = random.Random(number)
        if target.mutate is not None and rng.random() < 0.5:
            return target.mutate(data, rng)[:longest]
        return bytes(atheris.Mutate(data, longest))

    kept = [str(CORPUS / name)] if (CORPUS / name).is_dir() else []
    limits = [f"-max_total_time={seconds}", f"-seed={seed}", f"-timeout={HANG}", "-rss_limit_mb=0", f"-max_len={LONGEST}"]
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY << 20,) * 2)  # libFuzzer's own limit counts what the parent had when it forked, too
    atheris.Setup(
        [sys.argv[0], *limits, "-print_final_stats=1", "-verbosity=0", f"-artifact_prefix={directory}/", str(grown), *kept],
        lambda data: run(target, data) and None, custom_mutator=mutate,
    )  # fmt: skip
    atheris.Fuzz()


if __name__ == "__main__":
    main(*sys.argv[1:])
