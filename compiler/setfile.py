"""Files that a policy names: policies to include and lists of set members. Regular files only, of bounded size, UTF-8.

A set file has one member a line (addresses, prefixes, address ranges; or ports and port ranges), `#` comments, empty lines.
"""

from __future__ import annotations

import os
import re
import socket
import stat
from collections.abc import Iterable
from pathlib import Path

from compiler import types
from compiler.findings import Findings, LiteralError
from compiler.ir import V4_BASE, Ranges
from compiler.ranges import normalize
from compiler.source import Sources, Span
from compiler.tables import members

MAX_POLICY_FILE = 32 << 20  # bytes: some hundred thousand rules a few times over
MAX_SET_FILE = 64 << 20  # bytes: two million prefixes
MAX_BAD_LINES = 10  # shown of one file

_V4_PREFIX = re.compile(r"([0-9]+\.[0-9]+\.[0-9]+\.[0-9]+)(?:/([0-9]{1,2}))?")


_CAPTURES = (b"\xd4\xc3\xb2\xa1", b"\xa1\xb2\xc3\xd4", b"\x4d\x3c\xb2\xa1", b"\xa1\xb2\x3c\x4d", b"\x0a\x0d\x0d\x0a")  # pcap, pcapng


def read_text(path: Path, most: int) -> str:
    """The file's text. Raises LiteralError (N001) for what is no readable text file; never waits on a device or pipe."""
    try:
        data = _read(path, most)
    except (OSError, ValueError) as error:
        words = os.strerror(error.errno) if isinstance(error, OSError) and error.errno else str(error)
        raise LiteralError(
            "N001", f"`{path}` cannot be read: {words}", "paths are relative to the file that names them"
        ) from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if data.startswith(b"netc-bundle "):
            raise LiteralError("N001", f"`{path}` is a bundle, which is compiled already", "name the policy that it was made from; "
                               "bundles are for plan, apply and replay --engine xdp") from None  # fmt: skip
        if data[:4] in _CAPTURES:
            raise LiteralError("N001", f"`{path}` is a packet capture, not a policy", "the policy comes first: netc replay POLICY CAPTURE") from None
        line = data.count(b"\n", 0, error.start) + 1
        raise LiteralError("N001", f"`{path}` is not UTF-8 text: line {line}, byte 0x{data[error.start]:02x}",
                           "save it as UTF-8; a policy needs nothing but ASCII") from None  # fmt: skip


def _read(path: Path, most: int) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise LiteralError("N001", f"`{path}` is not a regular file", "devices, pipes and directories are not read")
        data = file.read(most + 1)
    if len(data) > most:
        raise LiteralError("N001", f"`{path}` is larger than {most >> 20} MiB", "split it, or aggregate its prefixes")
    return data


def read_members(name: str, text: str, kind: str, sources: Sources, findings: Findings) -> tuple[str, Ranges]:
    """The members of a set file; `kind` is address, port or "" to go by the first member. Bad lines become findings."""
    sources.add(name, text)
    kind, found = read_lines(name, members.lines(text), kind, findings)
    return kind, normalize(found)


def read_lines(name: str, lines: Iterable[tuple[int, str, str]], kind: str, findings: Findings) -> tuple[str, list[types.Range]]:
    """As `read_members`, each line's member by itself, in order. lines: number, whole line, word."""
    findings.file(name)
    found: list[tuple[int, int]] = []
    bad = 0
    for number, line, word in lines:
        kind = kind or types.type_of(word) or "address"
        try:
            found.append(_fast_v4(word) or _member(word, kind))
        except LiteralError as error:
            bad += 1
            if bad <= MAX_BAD_LINES:
                _report(findings, error, name, number, line, word)
    if bad > MAX_BAD_LINES:
        findings.add("N012", f"{bad - MAX_BAD_LINES} more lines of this file are wrong", Span(name, 1, 1, 1, 2))
    return kind or "address", found


def _member(word: str, kind: str) -> types.Range:
    if kind == "port":
        if types.type_of(word) == "address":
            raise LiteralError(
                "N012", f"`{word}` is not a port, and the lines above are ports", "a set has members of one type"
            )
        return types.PORT.parse(word)
    return types.address(word)


def _fast_v4(word: str) -> types.Range | None:
    """An IPv4 address or prefix without mistakes; None for everything else, which then goes the long way."""
    match = _V4_PREFIX.fullmatch(word)
    if not match:
        return None
    try:
        low = int.from_bytes(socket.inet_pton(socket.AF_INET, match[1]), "big")
    except OSError:
        return None
    length = int(match[2] or 32)
    if length > 32 or low & ((1 << (32 - length)) - 1):
        return None
    return V4_BASE + low, V4_BASE + low + (1 << (32 - length)) - 1


def _report(findings: Findings, error: LiteralError, name: str, number: int, line: str, word: str) -> None:
    column = line.index(word) + 1
    code = "N012" if error.code == "N033" else error.code
    findings.add(code, error.message, Span(name, number, column, number, column + len(word)), error.help)
