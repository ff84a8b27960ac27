"""Programs that are kept: found only by the text that they were made of, whole, by the same compiler, in a directory that nobody else writes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime import programs
from runtime.programs import Programs

CODE = bytes(range(64)) * 2
QUESTION = b"netc\0int netc(void) { return 1; }"


@pytest.fixture
def tool(tmp_path: Path) -> Path:
    """A file in the C compiler's place."""
    path = tmp_path / "libbcc.so"
    path.write_bytes(b"compiler")
    return path


@pytest.fixture
def kept(tmp_path: Path, tool: Path) -> Iterator[Programs]:
    with Programs(tmp_path / "kept") as made:
        made.keep(QUESTION, CODE, [str(tool)])
        yield made


def entry(tmp_path: Path) -> Path:
    (found,) = (tmp_path / "kept").iterdir()
    return found


def test_it_is_found_by_its_text_alone(kept: Programs, tmp_path: Path) -> None:
    assert kept.find(QUESTION) == CODE and kept.any()
    assert kept.find(QUESTION + b" ") is None and kept.find(b"other\0" + QUESTION.partition(b"\0")[2]) is None
    assert entry(tmp_path).stat().st_mode & 0o777 == 0o600 and (tmp_path / "kept").stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("at", [0, 20, 90, -1])
def test_a_changed_entry_is_passed_over_and_made_anew(kept: Programs, tmp_path: Path, tool: Path, at: int) -> None:
    data = bytearray(entry(tmp_path).read_bytes())
    data[at] ^= 1
    entry(tmp_path).write_bytes(data)
    assert kept.find(QUESTION) is None
    kept.keep(QUESTION, CODE, [str(tool)])
    assert kept.find(QUESTION) == CODE


@pytest.mark.parametrize("size", [0, 10, 79, 80, 200])
def test_a_cut_entry_is_passed_over(kept: Programs, tmp_path: Path, size: int) -> None:
    os.truncate(entry(tmp_path), size)
    assert kept.find(QUESTION) is None


def test_an_entry_under_another_name_is_passed_over(kept: Programs, tmp_path: Path, tool: Path) -> None:
    first = entry(tmp_path)
    kept.keep(QUESTION + b"2", bytes(64), [str(tool)])
    (second,) = set((tmp_path / "kept").iterdir()) - {first}
    second.replace(first)
    assert kept.find(QUESTION) is None


def test_another_compiler_makes_its_own(kept: Programs, tool: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tool.write_bytes(b"compiler, mended")
    assert kept.find(QUESTION) is None
    kept.keep(QUESTION, CODE, [str(tool)])
    assert kept.find(QUESTION) == CODE
    of_netc = tmp_path / "netc"
    (of_netc / "targets").mkdir(parents=True)
    (of_netc / "targets/bcc.py").write_text("# another way to compile")
    monkeypatch.setattr(programs, "_COMPILER", of_netc)
    assert kept.find(QUESTION) is None


def test_a_link_or_a_pipe_in_an_entrys_place_is_passed_over(kept: Programs, tmp_path: Path) -> None:
    path = entry(tmp_path)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    assert kept.find(QUESTION) is None
    path.unlink()
    os.mkfifo(path)
    assert kept.find(QUESTION) is None


def test_a_directory_that_others_write_is_not_used(tmp_path: Path, tool: Path) -> None:
    for name in ("open", "link", "file"):
        (tmp_path / "real").mkdir(exist_ok=True)
        path = tmp_path / name
        if name == "open":
            path.mkdir()
            path.chmod(0o777)
        elif name == "link":
            path.symlink_to(tmp_path / "real")
        else:
            path.write_text("")
        with Programs(path) as unused:
            unused.keep(QUESTION, CODE, [str(tool)])
            assert unused.find(QUESTION) is None and not unused.any()
        assert path.is_file() or not list(path.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to give a directory away")
def test_a_directory_of_somebody_else_is_not_used(tmp_path: Path, tool: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    theirs = tmp_path / "theirs"
    theirs.mkdir(mode=0o700)
    os.chown(theirs, 65534, 65534)
    with Programs(theirs) as unused:
        unused.keep(QUESTION, CODE, [str(tool)])
    assert not list(theirs.iterdir())
    monkeypatch.setenv("XDG_CACHE_HOME", str(theirs))
    assert programs.place() == Path("/var/cache/netc/programs")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert programs.place() == tmp_path / "netc/programs"


def test_the_longest_unused_goes_first(tmp_path: Path, tool: Path) -> None:
    with Programs(tmp_path / "kept") as kept:
        kept.keep(b"used", CODE, [str(tool)])
        os.utime(entry(tmp_path), (1, 1))
        (tmp_path / "kept" / "0123456789abcdef.tmp").write_bytes(b"left by a writer that was killed")
        os.utime(tmp_path / "kept" / "0123456789abcdef.tmp", (2, 2))
        assert kept.find(b"used") == CODE  # this is what keeps it
        for number in range(programs.MOST - 1):
            kept.keep(b"%d" % number, CODE, [str(tool)])
        assert kept.find(b"used") == CODE and len(os.listdir(tmp_path / "kept")) == programs.MOST
        kept.keep(b"one more", CODE, [str(tool)])
        assert len(os.listdir(tmp_path / "kept")) == programs.MOST and kept.find(b"one more") == CODE
        assert not (tmp_path / "kept" / "0123456789abcdef.tmp").exists()
