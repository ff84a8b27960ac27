"""netc rack report: what a run wrote is shown whole, in order, and as nothing but text, in every format."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest

from hwtests.rack.results import Result, Results
from runtime import cli
from runtime.rack import junit, ktap, matrix, page, results
from runtime.rack.changes import changes

NIC = {"nic": "igb", "device": "igb0", "driver": "igb", "firmware": "2.1.0", "bus": "0000:01:00.0", "kernel": "6.12", "rack": "virtual"}
HOSTILE = "\x00\x1b[2J\u202e</pre></td><script>alert(1)</script>]]><img src=x onerror=alert(1)>\"'&#x"
VOID = {"meta", "img", "br", "wbr", "hr", "input", "link"}


def written(directory: Path, every: list[dict[str, Any]], attempted: tuple[str, ...] = ()) -> Path:
    """A run's directory, by the writer of hwtests."""
    into = Results(directory, None, "virtual", ["igb", "igb-2"])
    for node in attempted:
        into.attempted(node)
    for one in every:
        into.add(Result(**{**NIC, **one}))
    into.close()
    return directory


def everything(directory: Path) -> Path:
    return written(
        directory,
        [
            {"test": "filter.drops", "variant": "native", "seconds": 1.5, "figures": {"pps": 50000.0}, "series": {"rtt_us": [(0.0, 50.0), (1.0, 230.0)]}},
            {"test": "filter.keeps", "result": "fail", "reason": "AssertionError: queue 3\nassert 12 == 255"},
            {"test": "steer.table", "result": "skip", "reason": "needs rss.contexts>=2, it has 0 (asked the device)"},
            {"test": "steer.hash", "result": "xfail", "quirk": "igb-hash", "reason": "known quirk of igb: no symmetric hash"},
            {"test": "steer.key", "quirk": "igb-key"},
        ],
        ("hwtests/test_filter.py::test_drops[igb-native]", "hwtests/test_link.py::test_flap[igb-2-native]"),
    )


class Page(HTMLParser):
    """Elements, attributes and text of a page; every element that is opened is closed in its order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found, self.words, self._open = list[tuple[str, dict[str, str | None]]](), "", list[str]()
        self.feed(text)
        assert not self._open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):  # type: ignore[union-attr]
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.get_starttag_text().endswith("/>") or self._open[-1:] == [tag]:  # type: ignore[union-attr]
            assert self._open.pop() == tag

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.words += data


def test_what_hwtests_writes_is_read_as_it_was(tmp_path: Path) -> None:
    run = results.read(everything(tmp_path / "run"))
    assert run.name == "run" and not run.damaged and [one.test for one in run.results][:2] == ["filter.drops", "filter.keeps"]
    assert run.results[0].figures == {"pps": 50000.0} and run.results[0].series == {"rtt_us": [(0.0, 50.0), (1.0, 230.0)]}
    assert [(one.rack, one.nic, one.test, one.variant) for one in run.crashed] == [("virtual", "igb-2", "link.flap", "native")]


def test_a_run_that_died_in_its_first_test_has_that_test(tmp_path: Path) -> None:
    run = results.read(written(tmp_path, [], ("hwtests/test_filter.py::test_drops[igb-native]",)))
    assert [(one.nic, one.test, one.variant, one.reason) for one in run.crashed] == [("igb", "filter.drops", "native", results.NEVER_ENDED)]


@pytest.mark.parametrize(
    ("end", "told"),
    [
        (b'{"test": "filter.x", "resu', "line 6: cut short"),
        (b'{"test": 7}\n', "line 6: Expected `str`, got `int`"),
        (b'{"test": "x", "result": "maybe"}\n', "line 6: Invalid enum value 'maybe'"),
        (b"\xff\xfe\n", "line 6: "),
        (b'{"test": "x", "figures": {"a": NaN}}\n', "line 6: "),
        (b"[" * 100_000 + b"\n", "line 6: "),
    ],
)
def test_a_damaged_line_is_named_and_an_error_in_every_format(tmp_path: Path, end: bytes, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    directory = everything(tmp_path)
    with (directory / results.FILE).open("ab") as file:
        file.write(end)
    run = results.read(directory)
    assert len(run.results) == 5 and f"line {run.damaged[0].line}: {run.damaged[0].reason}".startswith(told)
    assert cli.main(["rack", "report", str(directory)]) == 1
    out, err = capsys.readouterr()
    assert "filter.keeps" in out and "line 6 of the results could not be read" in err
    assert int(ElementTree.fromstring(junit.xml([run])).get("errors", "0")) == 2 and "not ok 7 results.jsonl line 6 # ERROR" in ktap.flat(run)
    assert ", line 6: " in Page(page.html(matrix.matrix([run]))).words


def test_nothing_to_report_on_is_an_error_with_the_mend(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rack", "report", str(tmp_path)]) == 1
    assert "no such file" in (told := capsys.readouterr().err) and "--results" in told
    written(tmp_path, [])
    assert cli.main(["rack", "report", str(tmp_path)]) == 1 and "no results in it" in capsys.readouterr().err


def test_the_page_has_every_result_and_each_reason_behind_a_button(tmp_path: Path) -> None:
    text = page.html(matrix.matrix([results.read(everything(tmp_path))]))
    shown = Page(text)
    buttons = {attributes["popovertarget"]: attributes for tag, attributes in shown.found if tag == "button"}
    panels = {attributes["id"] for _, attributes in shown.found if "popover" in attributes}
    assert set(buttons) == panels and len(panels) == 5
    assert [b["title"] for b in buttons.values()][1] == "needs rss.contexts>=2, it has 0 (asked the device)"
    for words in ("0000:01:00.0", "assert 12 == 255", "igb-hash", "igb-key did not show", "50 k", results.NEVER_ENDED):
        assert words in shown.words, words
    assert {"svg", "polyline"} <= {tag for tag, _ in shown.found}


def test_the_page_needs_nothing_and_runs_nothing(tmp_path: Path) -> None:
    hostile = {what: HOSTILE for what in ("test", "variant", "reason", "nic", "device", "driver", "firmware", "bus", "kernel", "rack", "quirk")}
    run = results.read(written(tmp_path, [{**hostile, "result": kind, "figures": {HOSTILE: 1.0}, "series": {HOSTILE: [(0, 1)]}} for kind in ("fail", "skip", "xfail", "pass")]))
    text = page.html(matrix.matrix([results.Run(HOSTILE, run.ended, run.results[:1], [], [results.Damaged(3, HOSTILE)]), run]))
    shown = Page(text)
    assert {tag for tag, _ in shown.found}.isdisjoint({"script", "img", "link", "iframe", "object"})
    assert not [name for _, attributes in shown.found for name in attributes if name.startswith("on")]
    assert all(c.isprintable() or c == "\n" for c in text) and "</script>" in shown.words
    assert not re.search(r"url\(|@import|https?://(?!www\.w3\.org/2000/svg)", text)


def test_junit_counts_what_is_in_it_and_is_xml_whatever_the_names_are(tmp_path: Path) -> None:
    run = results.read(everything(tmp_path))
    run.results.append(Result(test=HOSTILE, nic=HOSTILE, rack=HOSTILE, driver=HOSTILE, result="fail", reason=HOSTILE + "\ufffe\n\tx"))
    root = ElementTree.fromstring(junit.xml([run]))
    assert {name: root.get(name) for name in ("tests", "failures", "errors", "skipped")} == {"tests": "7", "failures": "2", "errors": "1", "skipped": "2"}
    assert root.tag == "testsuites" and {element.tag for element in root} == {"testsuite"}
    for suite in root:
        for count, tag in (("tests", "."), ("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
            assert int(suite.get(count, "-1")) == len(suite.findall(f"testcase/{tag}")), (suite.attrib, tag)
    skipped = root.find(".//skipped")
    assert skipped is not None and skipped.get("message") == "needs rss.contexts>=2, it has 0 (asked the device)"
    assert root.find("testsuite/properties/property[@name='driver']").get("value") == "igb"  # type: ignore[union-attr]
    assert root.find("testsuite/testcase").get("classname") == "hwtests.virtual.igb.filter"  # type: ignore[union-attr]


def test_ktap_has_a_plan_for_its_lines_and_no_line_of_its_own_from_a_name(tmp_path: Path) -> None:
    run = results.read(everything(tmp_path))
    run.results.append(Result(test="a # SKIP b\nok 9 c", result="fail", reason="x\n\x1b[2J"))
    lines = ktap.nested([run, run]).splitlines()
    assert lines[:2] == ["KTAP version 1", "1..2"] and lines[2] == "  KTAP version 1" and lines[3].startswith("  # Subtest: ") and lines[4] == "  1..7"
    tests = [line for line in lines if re.match(r"  (not )?ok \d", line)]
    assert len(tests) == 14 and tests[0] == "  ok 1 filter.drops igb native" and tests[1] == "  not ok 2 filter.keeps igb"
    assert tests[2] == "  ok 3 steer.table igb # SKIP needs rss.contexts>=2, it has 0 (asked the device)" and "# XFAIL known quirk" in tests[3]
    assert tests[5] == "  not ok 6 a  SKIP b\\nok 9 c" and tests[6].startswith("  not ok 7 link.flap igb-2 native # ERROR began")
    assert [line for line in lines if re.match(r"(not )?ok", line)] == [f"not ok {n} {run.name}" for n in (1, 2)]
    assert "  # Totals: pass:2 fail:2 xfail:1 xpass:0 skip:1 error:1" in lines


def test_what_changed_since_the_run_before_of_the_same_port(tmp_path: Path) -> None:
    """A run of another rack between two runs is not the run before."""
    one = written(tmp_path / "1", [{"test": "a.x"}, {"test": "a.y"}, {"test": "a.z", "figures": {"pps": 100.0, "rtt": 50.0}}])
    other = written(tmp_path / "2", [{"test": "a.x", "rack": "lab", "nic": "wan", "result": "fail"}])
    two = written(tmp_path / "3", [{"test": "a.x", "result": "fail"}, {"test": "a.z", "kernel": "6.18", "figures": {"pps": 50.0, "rtt": 51.0}}, {"test": "a.new"}])
    (two / results.FILE).write_text((two / results.FILE).read_text().replace('"6.12"', '"6.18"'))
    found = changes(matrix.matrix([results.read(path) for path in (one, other, two)]))
    assert {(c.what, c.old, c.new, c.worse, c.before, c.run) for c in found} == {
        ("a.x", "pass", "fail", True, 0, 2),
        ("a.y", "pass", "not run", True, 0, 2),
        ("kernel", "6.12", "6.18", False, 0, 2),
        ("a.z pps", "100", "50 (-50 %)", False, 0, 2),
        ("a.new", "not run", "pass", False, 0, 2),
    }
    assert [c.worse for c in found][:2] == [True, True], "what became worse comes first"


def test_the_files_that_were_asked_for_and_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first, second = everything(tmp_path / "a" / "out"), everything(tmp_path / "b" / "out")
    files = [tmp_path / name for name in ("r.html", "r.xml", "r.ktap")]
    assert cli.main(["rack", "report", str(first), str(second), "-o", str(files[0]), "--junit", str(files[1]), "--ktap", str(files[2]), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert [run["name"] for run in told["runs"]] == ["out (1)", "out (2)"] and len(told["results"]) == 12 and told["changes"] == []
    assert [file.read_bytes()[:5] for file in files] == [b"<!DOC", b"<?xml", b"KTAP "]


def test_the_text_for_a_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["rack", "report", str(everything(tmp_path))]) == 0
    out = capsys.readouterr().out
    assert "fail virtual igb filter.keeps: AssertionError: queue 3" in out and out.endswith("2 pass, 1 fail, 1 crash, 1 quirk, 1 skip\n")


@pytest.mark.parametrize("points", [[(0, 0)], [(1e308, -1e308), (-1e308, 1e308)], [(0, 5e-324)], [(1, 2)] * 5000, [(0, 1e18), (1, 1e18)]])
def test_any_series_can_be_drawn(tmp_path: Path, points: list[tuple[float, float]]) -> None:
    run = results.read(written(tmp_path, [{"test": "a.x", "series": {"s": points}, "figures": {"f": points[0][1]}}]))
    text = page.html(matrix.matrix([run, results.Run("later", run.ended, run.results, [], [])]))
    assert not re.search(r'"(nan|-?inf)"|\b(nan|inf)\b', re.sub(r"<style>.*?</style>", "", text, flags=re.DOTALL))
