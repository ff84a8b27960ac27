"""Times `netc compile` from start to end, and the compiler's stages by themselves; not a test.

    python bench/compile.py [--repeat N] POLICY...

`cold`: wall seconds of the whole command when no program is kept (runtime/programs.py); `kept`: the same when the policy's program is. Both in turn
within each round, each in a process of its own: the median, and the range of all rounds. Stages: least CPU seconds of one process, which is
nobody where the bench is root, as the compiler is: of root bcc reads all of the kernel's symbols first.
"""

from __future__ import annotations

import argparse
import json
import os
import pwd
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
STAGES = ("import", "check", "place", "lower", "tables", "C", "encode")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policies", nargs="+", type=Path)
    parser.add_argument("--repeat", type=int, default=7, help="rounds")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(_stages(options.policies[0])))
        return
    print(f"{'policy':<20}{'cold':>24}{'kept':>24}   " + "".join(f"{stage:>8}" for stage in STAGES))
    for policy in options.policies:
        cold, kept = _whole(policy, options.repeat)
        runs = [_in_a_child(policy) for _ in range(options.repeat)]
        columns = "".join(f"{min(run[stage] for run in runs):>8.3f}" for stage in STAGES)
        print(f"{policy.name:<20}{_spread(cold):>24}{_spread(kept):>24}   {columns}", flush=True)


def _whole(policy: Path, rounds: int) -> tuple[list[float], list[float]]:
    cold, kept = [], []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as empty:
            cold.append(_command(policy, empty))
            kept.append(_command(policy, empty))
    return cold, kept


def _command(policy: Path, programs: str) -> float:
    """Wall seconds of one `netc compile`."""
    command = [str(Path(sys.executable).parent / "netc"), "compile", str(policy), "-o", f"{programs}/bundle"]
    begun = time.perf_counter()
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, env={**os.environ, "XDG_CACHE_HOME": programs})
    return time.perf_counter() - begun


def _spread(seconds: list[float]) -> str:
    return f"{statistics.median(seconds):.3f} ({min(seconds):.3f}-{max(seconds):.3f})"


def _in_a_child(policy: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", str(policy.absolute())]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return result


def _stages(path: Path) -> dict[str, float]:
    """CPU seconds of each stage; `lower` is what is left of it beside tables and C."""
    import gc

    gc.set_threshold(2_000_000, 50, 100)  # as in compiler/__main__.py
    os.environ["OPENBLAS_NUM_THREADS"] = "1"
    sys.path.insert(0, str(ROOT))
    times = dict.fromkeys(STAGES, 0.0)

    def timed(name: str, work: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: object) -> object:
            begun = time.process_time()
            try:
                return work(*arguments)
            finally:
                times[name] += time.process_time() - begun

        return run

    timed("import", __import__)("compiler.pipeline")
    from compiler import bundle, passes, pipeline, place, profile
    from compiler.source import Sources
    from compiler.targets import bcc, nft, tc, xdp, xdp_classifier

    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.setgroups([])
        os.setresgid(nobody.pw_gid, nobody.pw_gid, nobody.pw_gid)
        os.setresuid(nobody.pw_uid, nobody.pw_uid, nobody.pw_uid)
    bcc.compile_c = timed("C", bcc.compile_c)
    xdp_classifier.pick = timed("tables", xdp_classifier.pick)
    program, _ = timed("check", pipeline.check)(path, Sources())
    optimised, _ = timed("place", passes.run)(program)
    placed = timed("place", place.place)(optimised, profile.chosen(None))
    made = timed("lower", xdp.lower)(placed)
    timed("lower", tc.lower)(placed)
    timed("lower", nft.lower)(placed)
    times["lower"] -= times["tables"] + times["C"]
    whole = bundle.Bundle(path.name, "", "bench", (), made.maps, made.programs, made.counters, (), (), (), placed.reasons, (), ())
    timed("encode", bundle.encode)(whole)
    return times


if __name__ == "__main__":
    main()
