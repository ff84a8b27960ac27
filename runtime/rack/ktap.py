"""Results as KTAP version 1, the kernel's test format (Documentation/dev-tools/ktap.rst), with the totals line of the kernel's kselftest."""

from __future__ import annotations

from runtime import output
from runtime.rack import matrix
from runtime.rack.matrix import Outcome
from runtime.rack.results import Run

_DIRECTIVES = {"skip": "SKIP", "quirk": "XFAIL", "crash": "ERROR"}


def flat(run: Run) -> str:
    """One run, one line a test: what `pytest hwtests --ktap` writes."""
    return "\n".join(["KTAP version 1", *_tests(matrix.outcomes(run, 0), run, "")]) + "\n"


def nested(runs: list[Run]) -> str:
    """Several runs: each is a test of its own, its tests are below it."""
    lines = ["KTAP version 1", f"1..{len(runs)}"]
    for number, run in enumerate(runs, 1):
        name, found = _name(run.name), matrix.outcomes(run, 0)
        failed = run.damaged or any(one.state in ("fail", "crash") for one in found)
        lines += ["  KTAP version 1", f"  # Subtest: {name}", *_tests(found, run, "  "), f"{'not ok' if failed else 'ok'} {number} {name}"]
    return "\n".join(lines) + "\n"


def _tests(found: list[Outcome], run: Run, indent: str) -> list[str]:
    """A line a test and one a damaged line, which is a test whose verdict nobody knows."""
    lines = [f"1..{len(found) + len(run.damaged)}"]
    for number, one in enumerate(found, 1):
        lines += _test(number, one)
    for number, line in enumerate(run.damaged, len(found) + 1):
        lines.append(f"not ok {number} results.jsonl line {line.line} # ERROR {output.printable(line.reason)}")
    total = matrix.counts([one.state for one in found])
    lines.append(f"# Totals: pass:{total['pass']} fail:{total['fail']} xfail:{total['quirk']} xpass:0 skip:{total['skip']} "
                 f"error:{total['crash'] + len(run.damaged)}")  # fmt: skip
    return [indent + line for line in lines]


def _test(number: int, one: Outcome) -> list[str]:
    name = _name(" ".join(filter(None, (one.result.test, one.result.nic, one.result.variant))))
    verdict = "not ok" if one.state in ("fail", "crash") else "ok"
    directive = _DIRECTIVES.get(one.state)
    reason = output.printable(" ".join(one.result.reason.split()))
    lines = [f"{verdict} {number} {name}{f' # {directive} {reason}' if directive else ''}".rstrip()]
    if one.state == "fail":
        lines += [f"# {output.printable(line)}" for line in one.result.reason.splitlines()]
    return lines


def _name(text: str) -> str:
    """A description may have no # and no end of line."""
    return output.printable(text.replace("#", "")).strip() or "?"
