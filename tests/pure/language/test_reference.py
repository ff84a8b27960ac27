"""The language reference is true: every example compiles, and every word of the grammar is in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from compiler import lints, pipeline, scenario, syntax_errors, wellknown
from compiler.diagnostics import CompileError
from compiler.parse import TOP_LEVEL, keywords
from compiler.source import Sources

PAGE = (Path(__file__).parents[3] / "docs" / "language.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```netc\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


@pytest.mark.parametrize("number", range(len(EXAMPLES)))
def test_example(number: int, tmp_path: Path) -> None:
    text = EXAMPLES[number]
    path = tmp_path / "example.netc"
    path.write_text(text if "nic " in text else "nic wan { device eth0 }\n" + text, encoding="utf-8")
    sources = Sources()
    try:
        program, found = pipeline.check(path, sources)
    except CompileError as error:
        pytest.fail("".join(d.draw(sources) for d in error.diagnostics))
    assert found == []
    assert [result for result in scenario.run(program) if not result.held] == []


def test_there_are_examples() -> None:
    assert len(EXAMPLES) >= 9


@pytest.mark.parametrize("word", sorted(keywords()))
def test_every_word_is_explained(word: str) -> None:
    assert re.search(rf"(?<![A-Za-z0-9_-]){re.escape(word)}(?![A-Za-z0-9_-])", PAGE)


def test_every_named_thing_is_listed() -> None:
    for name in wellknown.ICMP:
        assert name in PAGE
    for code in re.findall(r"W\d{3}", (Path(lints.__file__)).read_text(encoding="utf-8")):
        assert code in PAGE
    for word in syntax_errors.NOT_YET:
        assert word in PAGE or "NAT is not netc's" in syntax_errors.NOT_YET[word][1]


def test_declarations_are_those_of_the_grammar() -> None:
    grammar = Path(lints.__file__).with_name("grammar.lark").read_text(encoding="utf-8")
    line = re.search(r"^\?statement: (.*)$", grammar, re.MULTILINE)
    assert line is not None
    assert set(line[1].split(" | ")) - {"broken"} == set(TOP_LEVEL)
