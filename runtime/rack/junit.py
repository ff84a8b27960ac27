"""Results as JUnit XML, in the elements that every CI tool reads (testsuites, testsuite, properties, testcase, failure, error, skipped, system-out)."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from runtime import output
from runtime.rack import matrix
from runtime.rack.matrix import Outcome
from runtime.rack.results import IDENTITY, Run

_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # XML 1.0 section 2.2: Char


def xml(runs: list[Run]) -> bytes:
    """One suite for each run and port."""
    root = ElementTree.Element("testsuites", name="netc hwtests")
    suites = [suite for number, run in enumerate(runs) for suite in _suites(run, number)]
    for suite in suites:
        root.append(suite)
    for total in ("tests", "failures", "errors", "skipped"):
        root.set(total, str(sum(int(suite.get(total, "0")) for suite in suites)))
    root.set("time", f"{sum(float(suite.get('time', '0')) for suite in suites):.3f}")
    ElementTree.indent(root)
    text: bytes = ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)
    return text + b"\n"


def _suites(run: Run, number: int) -> list[ElementTree.Element]:
    found = matrix.outcomes(run, number)
    ports = dict.fromkeys(matrix.Column(one.result.rack, one.result.nic) for one in found)
    suites = [_suite(run, port, [one for one in found if (one.result.rack, one.result.nic) == port]) for port in ports]
    return [*suites, _damaged(run)] if run.damaged else suites


def _suite(run: Run, port: matrix.Column, found: list[Outcome]) -> ElementTree.Element:
    total = matrix.counts([one.state for one in found])
    suite = _head(run, port.title, len(found), total["fail"], total["crash"], total["skip"] + total["quirk"], sum(one.result.seconds for one in found))
    properties = ElementTree.SubElement(suite, "properties")
    known = max(found, key=lambda one: bool(one.result.driver)).result
    for what in ("rack", *IDENTITY):
        ElementTree.SubElement(properties, "property", name=what, value=_clean(getattr(known, what)))
    for one in found:
        suite.append(_case(one, port))
    return suite


def _head(run: Run, name: str, tests: int, failures: int, errors: int, skipped: int, seconds: float) -> ElementTree.Element:
    return ElementTree.Element(
        "testsuite", name=_clean(f"{run.name}: {name}"), tests=str(tests), failures=str(failures), errors=str(errors), skipped=str(skipped),
        time=f"{seconds:.3f}", timestamp=run.ended.strftime("%Y-%m-%dT%H:%M:%S"),
    )  # fmt: skip


def _case(one: Outcome, port: matrix.Column) -> ElementTree.Element:
    file, _, name = one.result.test.rpartition(".")
    title = f"{name}[{one.result.variant}]" if one.result.variant else name
    place = ".".join(filter(None, ("hwtests", port.rack, port.nic, file)))
    case = ElementTree.Element("testcase", classname=_clean(place), name=_clean(title), time=f"{one.result.seconds:.3f}")
    reason = _clean(one.reason)
    first = reason.strip().partition("\n")[0]
    if one.state == "fail":
        ElementTree.SubElement(case, "failure", message=first, type="fail").text = reason
    elif one.state == "crash":
        ElementTree.SubElement(case, "error", message=first, type="crash").text = reason
    elif one.state in ("skip", "quirk"):
        ElementTree.SubElement(case, "skipped", message=first, type=one.state).text = reason
    if one.result.figures:
        ElementTree.SubElement(case, "system-out").text = _clean("\n".join(f"{name}: {value:.9g}" for name, value in one.result.figures.items()))
    return case


def _damaged(run: Run) -> ElementTree.Element:
    """Lines that nobody can read are errors: a test whose verdict is lost has not passed."""
    suite = _head(run, "damaged results", len(run.damaged), 0, len(run.damaged), 0, 0.0)
    for line in run.damaged:
        case = ElementTree.SubElement(suite, "testcase", classname="hwtests.results", name=f"results.jsonl line {line.line}", time="0.000")
        ElementTree.SubElement(case, "error", message=_clean(line.reason), type="damaged").text = _clean(line.reason)
    return suite


def _clean(text: str) -> str:
    """What XML 1.0 has no way to write, and what drives a terminal, is shown as its escape."""
    text = "\n".join(output.printable(line.replace("\t", "    ")) for line in text.splitlines())
    return _NOT_XML.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
