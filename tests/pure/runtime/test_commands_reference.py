"""docs/commands.md is what --help says, for every command.

After a wanted change: `NETC_UPDATE_GOLDEN=1 pytest tests/pure/runtime/test_commands_reference.py`, then read the difference.
"""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path

import pytest

from runtime import cli

PAGE = Path(__file__).parents[3] / "docs" / "commands.md"
MARK = "<!-- from here on: what --help prints (tests/pure/runtime/test_commands_reference.py) -->\n"


def subcommands(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def printed(name: str, parser: argparse.ArgumentParser) -> str:
    below = "".join(printed(f"{name} {sub}", found) for sub, found in subcommands(parser).items())
    return f"\n## netc {name}\n\n```text\n{parser.format_help()}```\n{below}"


def whole() -> str:
    return "".join(printed(command.name, subcommands(cli.parser(command.name))[command.name]) for command in cli.COMMANDS)


def test_the_page_is_what_help_prints(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "110")
    monkeypatch.setenv("NO_COLOR", "1")
    head, mark, body = PAGE.read_text().partition(MARK)
    if os.environ.get("NETC_UPDATE_GOLDEN") == "1":
        PAGE.write_text(head + MARK + whole())
        return
    assert mark and body == whole(), "docs/commands.md is out of date: see this file's first lines"


def test_every_command_and_exit_status_is_told_in_the_head() -> None:
    head = PAGE.read_text().partition(MARK)[0]
    for command in cli.COMMANDS:
        assert re.search(rf"`netc {command.name}\b", head), command.name


@pytest.mark.parametrize("command", cli.COMMANDS, ids=lambda c: c.name)
def test_every_command_runs_what_its_line_in_the_help_promises(command: cli.Command) -> None:
    """The line of `netc --help` is the command's own, and the command has something to run."""
    parser = subcommands(cli.parser(command.name))[command.name]
    assert parser.get_default("run") or all(sub.get_default("run") for sub in subcommands(parser).values())


def test_wrong_usage_is_exit_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["aply"], ["apply"], ["apply", "x", "--nik", "a=b"], ["counters", "surplus"]):
        with pytest.raises(SystemExit) as ended:
            cli.main(arguments)
        assert ended.value.code == 2 and "error:" in capsys.readouterr().err


def test_an_error_is_a_message_and_debug_shows_where(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["apply", str(tmp_path / "none.netc")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") and "No such file" in told and "Traceback" not in told
    with pytest.raises(Exception, match="No such file"):
        cli.main(["--debug", "apply", str(tmp_path / "none.netc")])
