"""Files that policies name: relative, regular, bounded, with places in every message."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from compiler import setfile
from compiler.diagnostics import CompileError, Diagnostic
from compiler.frontend import load
from compiler.ir import V4_BASE
from compiler.source import Sources

NIC = "nic wan { device eth0 }\n"


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        path = folder / name.replace("__", "/").replace("_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder / "a.netc"


def refused(path: Path) -> list[Diagnostic]:
    with pytest.raises(CompileError) as caught:
        load(path, Sources())
    return caught.value.diagnostics


def test_includes_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        a_netc=NIC + 'include "parts/b.netc"\nfilter wan in { use base; default drop }\n',
        parts__b_netc='include "c.netc"\nset bad = file "bad.txt"\n',
        parts__c_netc="rules base { drop src in bad }\n",
        parts__bad_txt="192.0.2.0/24\n",
    )
    made = load(path, Sources()).program
    assert made.sets[0].ranges == ((V4_BASE + 0xC0000200, V4_BASE + 0xC00002FF),)
    assert made.chains[0].rules[0].span.file == str(tmp_path / "parts" / "c.netc")


def test_a_file_may_be_included_twice_by_mistake_only(tmp_path: Path) -> None:
    path = write(tmp_path, a_netc=NIC + 'include "b.netc"\ninclude "b.netc"\n', b_netc="set web = { 80 }\n")
    assert [d.code for d in refused(path)] == ["N021"]


def test_a_circle_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path, a_netc=NIC + 'include "b.netc"\n', b_netc='include "./a.netc"\n')
    (found,) = refused(path)
    assert (found.code, found.span.file, found.span.line) == ("N010", str(tmp_path / "b.netc"), 1)


def test_many_includes_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, a_netc=NIC + 'include "b.netc"\n' * 100, b_netc="")
    assert {d.code for d in refused(path)} == {"N010"}


def test_pipes_and_devices_are_refused_without_waiting(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "/dev/zero", "/dev/tty", "/proc/self/mem", "."):
        path = write(tmp_path, a_netc=NIC + f'set x = file "{name}"\ninclude "{name}"\n')
        assert {d.code for d in refused(path)} <= {"N001", "N002", "N003", "N012"}


def test_large_files_are_refused(tmp_path: Path) -> None:
    path = write(tmp_path, a_netc=NIC + "# " + "x" * setfile.MAX_POLICY_FILE)
    assert [d.code for d in refused(path)] == ["N001"]
    with open(tmp_path / "big.txt", "wb") as file:
        file.truncate(setfile.MAX_SET_FILE + 1)
    path = write(tmp_path, a_netc=NIC + 'set x = file "big.txt"\n')
    assert [d.code for d in refused(path)] == ["N001"]


def test_a_missing_policy_is_an_error_with_its_path(tmp_path: Path) -> None:
    (found,) = refused(tmp_path / "nothing.netc")
    assert found.code == "N001"
    assert "No such file or directory" in found.message


def test_byte_order_mark_and_carriage_returns_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.netc"
    path.write_bytes(b"\xef\xbb\xbf" + (NIC + 'set x = file "x.txt"\n').replace("\n", "\r\n").encode())
    (tmp_path / "x.txt").write_bytes(b"192.0.2.1\r\n192.0.2.2\r\n")
    assert load(path, Sources()).program.sets[0].ranges == ((V4_BASE + 0xC0000201, V4_BASE + 0xC0000202),)


def test_bad_lines_are_all_named_up_to_a_number(tmp_path: Path) -> None:
    path = write(tmp_path, a_netc=NIC + 'set x = file "x.txt"\n', x_txt="192.0.2.1\n" + "nonsense\n" * 50)
    found = refused(path)
    assert [d.span.line for d in found if "nonsense" in d.message] == list(range(2, 12))
    assert any("40 more lines" in d.message for d in found)


def test_a_large_set_file_is_read_whole(tmp_path: Path) -> None:
    lines = "".join(f"{10 + (n >> 16)}.{n >> 8 & 255}.{n & 255}.0/25\n" for n in range(100_000))
    path = write(tmp_path, a_netc=NIC + 'set x = file "x.txt"\n', x_txt=lines)
    assert len(load(path, Sources()).program.sets[0].ranges) == 100_000


def test_the_digest_covers_set_files(tmp_path: Path) -> None:
    digests = set()
    for member in ("192.0.2.1", "192.0.2.2"):
        sources = Sources()
        load(write(tmp_path, a_netc=NIC + 'set x = file "x.txt"\n', x_txt=member), sources)
        digests.add(sources.digest())
    assert len(digests) == 2


@pytest.mark.parametrize(
    ("start", "words"),
    [(b"netc-bundle 1 00\nx\xda", "is a bundle"), (b"\xd4\xc3\xb2\xa1\x02\x00", "is a packet capture"), (b"\x0a\x0d\x0d\x0a\xff", "is a packet capture")],
)
def test_a_bundle_or_a_capture_in_place_of_a_policy_is_called_what_it_is(tmp_path: Path, start: bytes, words: str) -> None:
    (tmp_path / "a.netc").write_bytes(start)
    assert words in refused(tmp_path / "a.netc")[0].message
