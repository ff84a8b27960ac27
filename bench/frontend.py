"""Times the compiler's stages up to placement, in CPU seconds of one process, over policies with many rules; not a test.

    python bench/frontend.py [--repeat N] POLICY...
    python bench/frontend.py --rules 1000,10000,100000      # made up here, in the manner of ClassBench's acl sets

Lowering is left out: how rules become tables or code is another subject. Each policy is compiled in a process of its own, so that
nothing is warm; `total` is that process from its start on, Python's own start included.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

Result = TypeVar("Result")
STAGES = ("import", "parse", "resolve", "check", "ir_spec", "protect", "passes", "place", "encode", "total")


def main() -> None:
    options = _options()
    if options.one:
        print(json.dumps(_stages(Path(options.one))))
        return
    with tempfile.TemporaryDirectory() as folder:
        policies = [Path(name) for name in options.policies]
        policies += [_made_up(Path(folder) / f"acl-{count}.netc", int(count)) for count in options.rules.split(",") if count]
        print(f"{'policy':<24}" + "".join(f"{stage:>9}" for stage in STAGES) + "   rules    MiB")
        for policy in policies:
            runs = [_in_a_child(policy) for _ in range(options.repeat)]
            best = {key: min(run[key] for run in runs) for key in runs[0]}
            columns = "".join(f"{best[stage]:>9.3f}" for stage in STAGES)
            print(f"{policy.name:<24}{columns}{best['rules']:>8.0f}{best['memory']:>7.0f}", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policies", nargs="*")
    parser.add_argument("--rules", default="", help="numbers of rules of policies to make up, separated by commas")
    parser.add_argument("--repeat", type=int, default=3, help="the least of so many runs is shown")
    parser.add_argument("--one", help=argparse.SUPPRESS)
    return parser.parse_args()


def _in_a_child(policy: Path) -> dict[str, float]:
    command = [sys.executable, __file__, "--one", str(policy)]
    result: dict[str, float] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    return result


def _stages(path: Path) -> dict[str, float]:
    """CPU seconds of each stage, peak memory in MiB, number of rules."""
    import gc
    import resource

    gc.set_threshold(2_000_000, 50, 100)  # as in compiler/__main__.py
    times: dict[str, float] = {}

    def timed(name: str, work: Callable[[], Result]) -> Result:
        start = time.process_time()
        result = work()
        times[name] = times.get(name, 0.0) + time.process_time() - start
        return result

    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    timed("import", lambda: __import__("compiler.pipeline"))
    from compiler import bundle, check, ir_spec, passes, pipeline, place, profile, protect, resolve
    from compiler.findings import Findings
    from compiler.source import Sources

    findings, sources = Findings(), Sources()
    findings.file(str(path))
    statements = timed("parse", lambda: resolve.read_policy(path, sources, findings))
    scope = timed("resolve", lambda: resolve.declare(statements, sources, findings))
    program = timed("check", lambda: check.program(scope, statements))
    timed("check", findings.check)
    timed("ir_spec", lambda: ir_spec.check(program))
    timed("protect", lambda: protect.prove(program))
    optimised, _ = timed("passes", lambda: passes.run(program))
    target = profile.chosen("generic")
    placed = timed("place", lambda: place.place(optimised, target))
    whole = bundle.Bundle(path.name, "", "bench", (), (), (), (), (), (), (), placed.reasons, (), ())
    made = timed("encode", lambda: pipeline._named_from(whole, path.parent, sources))
    timed("encode", lambda: bundle.encode(made))
    times["total"] = time.process_time()
    times["memory"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    times["rules"] = sum(len(chain.rules) for chain in program.chains)
    return times


def _made_up(path: Path, count: int) -> Path:
    """Rules of an access list: a thousand sources, a few hundred destinations, services; all different."""
    rng = random.Random(1)
    sources = [f"10.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(256)}" for _ in range(1000)]
    targets = [f"172.{16 + rng.randrange(16)}.{rng.randrange(256)}.0/24" for _ in range(300)]
    lines = [
        f"  {rng.choice(('pass', 'drop'))} {rng.choice(('tcp', 'udp'))} src {rng.choice(sources)} dst {rng.choice(targets)}"
        f" dport {rng.choice(('22', '53', '80', '443', '1024-65535', str(rng.randrange(65536))))} as r{number}"
        for number in range(count)
    ]
    text = "\n".join(["nic wan { device wan0; xdp native }", "filter wan in {", *lines, "  default drop", "}", ""])
    path.write_text(text, encoding="utf-8")
    return path


if __name__ == "__main__":
    main()
