"""Captures: pcap and pcapng files as frames with their times. Both halves read them, so that both see the same packets."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

LINKTYPE_ETHERNET = 1
START = 10**9  # ns: where an engine's clock starts; 0 would mean the kernel's own clock
_PCAPNG_MAGIC = b"\x0a\x0d\x0d\x0a"
_PCAP_HEAD, _RECORD_HEAD = 24, 16  # bytes (pcap-savefile(5))
_SMALLEST_BLOCK = 12  # bytes: type, length, length again (draft-ietf-opsawg-pcapng, section 3.1)


class CaptureError(Exception):
    """A file that is not a capture of Ethernet frames. The text says what is wrong with it."""


def read(path: Path) -> list[tuple[int, bytes]]:
    """Every (time in ns since the epoch, frame) of a capture, in file order. Raises CaptureError, OSError."""
    import dpkt

    with _mapped(path) as file:
        reader_type = dpkt.pcapng.Reader if file.read(4) == _PCAPNG_MAGIC else dpkt.pcap.Reader
        file.seek(0)
        try:
            reader = reader_type(file)
            if reader.datalink() != LINKTYPE_ETHERNET:
                raise CaptureError(f"{path}: link type {reader.datalink()}; netc judges Ethernet frames (link type 1)")
            at = file.tell()
            if reader_type is dpkt.pcap.Reader:
                _require_whole(path, file)
            else:
                _require_whole_blocks(path, file)
            file.seek(at)
            return [(_nanoseconds(time), frame) for time, frame in reader]
        except (dpkt.Error, ValueError, IndexError, KeyError, OverflowError) as error:
            raise CaptureError(f"{path}: not a whole pcap or pcapng file: {error or type(error).__name__}") from None


@contextmanager
def _mapped(path: Path) -> Iterator[Any]:
    """The file in memory as its pages are read: dpkt asks for as many bytes as a block claims to have, and a file object would make room for them first."""
    with path.open("rb") as file:
        if os.fstat(file.fileno()).st_size == 0:
            raise CaptureError(f"{path}: not a whole pcap or pcapng file: it is empty")
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            yield content


def _require_whole(path: Path, file: mmap.mmap) -> None:
    """dpkt gives a packet that the file's end cuts as a shorter one, and reads as many bytes as a packet claims to have. Raises CaptureError."""
    size, at, number = len(file), _PCAP_HEAD, 0
    file.seek(0)
    order: Literal["little", "big"] = "little" if file.read(4) in (b"\xd4\xc3\xb2\xa1", b"\x4d\x3c\xb2\xa1") else "big"
    while at < size:
        file.seek(at + 8)
        at, number = at + _RECORD_HEAD + int.from_bytes(file.read(4), order), number + 1
    if at != size:
        raise CaptureError(f"{path}: not a whole pcap file: it ends in the middle of packet {number}")


def _require_whole_blocks(path: Path, file: mmap.mmap) -> None:
    """Each block says its length at both ends (pcapng, section 3.1); dpkt believes the first, below zero too. Raises CaptureError."""
    at, number = 0, 0
    order: Literal["little", "big"] = "little"
    while at < len(file):
        if file[at : at + 4] == _PCAPNG_MAGIC:  # a section has its own byte order
            order = "little" if file[at + 8 : at + 12] == b"\x4d\x3c\x2b\x1a" else "big"
        number, length = number + 1, int.from_bytes(file[at + 4 : at + 8], order)
        if length < _SMALLEST_BLOCK or at + length > len(file) or file[at + length - 4 : at + length] != file[at + 4 : at + 8]:
            raise CaptureError(f"{path}: not a whole pcapng file: block {number} is cut, or its length is wrong")
        at += length


def on_the_clock(packets: Iterable[tuple[int, bytes]]) -> Iterator[tuple[int, bytes]]:
    """The same packets by an engine's clock: the first at START, the others as much later as in the capture, never before 1 ns.

    Both engines count ticks of 1/64 ns in 64 bits, which the years since the epoch would overflow.
    """
    first = None
    for time, frame in packets:
        first = time if first is None else first
        yield max(START + time - first, 1), frame


def write(path: Path, frames: Iterable[tuple[int, bytes]]) -> None:
    """A pcap file with nanosecond times (magic 0xa1b23c4d)."""
    import dpkt

    try:
        with path.open("wb") as file:
            writer = dpkt.pcap.Writer(file, nano=True)
            for time, frame in frames:
                writer.writepkt_time(frame, Decimal(time) / 10**9)  # a float would lose the nanoseconds
    except OSError as error:  # a full disk: the kernel's error names no file
        raise OSError(error.errno, error.strerror, str(path)) from None


def _nanoseconds(time: Any) -> int:
    """dpkt gives microsecond files as floats and nanosecond files as Decimals."""
    return round(time * 10**6) * 1000 if isinstance(time, float) else int(time * 10**9)
