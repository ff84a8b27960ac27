"""rack: what tests on hardware said."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

REPORT = """\
What `pytest hwtests --rack RACK --results DIR` wrote: the matrix of port and test (pass, fail, skip with the probe's reason, known quirk, crash:
a test that began and never ended), versions of driver, firmware and kernel, figures and series, and what changed since the run before.

Several DIRs are several runs, the oldest first. The run before a port's is the last earlier one that had the same port of the same rack, so runs
on different racks may be given together.
"""
EPILOG = """\
Exit status 0: the report is made, whatever the tests said; 1: there are no results, or some of a file could not be read: these lines are named, in
JUnit and KTAP they are errors, and the rest is reported.
"""


def add_parser(subparsers: Any) -> None:
    rack = subparsers.add_parser("rack", help="results of tests on hardware", description="Results of tests on hardware (hwtests).")
    commands = rack.add_subparsers(title="COMMANDS", metavar="COMMAND", required=True)
    report = commands.add_parser("report", help="NIC × test matrix as text, HTML, JUnit XML and KTAP", description=REPORT, epilog=EPILOG,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    report.add_argument("runs", nargs="+", type=Path, metavar="DIR", help="a directory with results.jsonl, or such a file")
    report.add_argument("-o", "--output", type=Path, metavar="FILE.html", help="write the report as one HTML file that needs nothing else")
    report.add_argument("--junit", type=Path, metavar="FILE.xml", help="write JUnit XML: a suite for each run and port")
    report.add_argument("--ktap", type=Path, metavar="FILE", help="write KTAP, the kernel's test format: a test for each run, its tests below it")
    report.add_argument("--json", action="store_true", help="one JSON document")
    report.set_defaults(run=run_report)


def run_report(options: argparse.Namespace) -> int:
    from runtime import output
    from runtime.rack import matrix, results, view

    runs = results.distinct([results.read(path) for path in options.runs])
    found = matrix.matrix(runs)
    _write(options, found)
    if options.json:
        output.show_json(view.as_json(found))
    else:
        print(view.shown(found))
    damaged = [(run, line) for run in runs for line in run.damaged]
    for run, line in damaged:
        output.show_warning(f"{run.name}: line {line.line} of the results could not be read: {line.reason}")
    return 1 if damaged else 0


def _write(options: argparse.Namespace, found: Any) -> None:
    """The files that were asked for."""
    from runtime import state
    from runtime.rack import junit, ktap, page

    if options.output:
        state.write_atomically(options.output, page.html(found).encode(), 0o644)
    if options.junit:
        state.write_atomically(options.junit, junit.xml(found.runs), 0o644)
    if options.ktap:
        state.write_atomically(options.ktap, ktap.nested(found.runs).encode(), 0o644)
