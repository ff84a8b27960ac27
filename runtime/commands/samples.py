"""samples: the packets that rules with `sample` or `log` copied, as lines, JSON or a capture."""

from __future__ import annotations

import argparse
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from runtime.commands import target as targets

if TYPE_CHECKING:
    from runtime.backends.bpf_ring import Ring
    from runtime.samples import Reader, Sample

_DESCRIPTION = """\
The packets that rules with `then sample 1/N` or `then log` copied at the XDP stage: time, nic, rule, verdict, length, packet. Each is
shown once; what nobody reads stays in a ring buffer of 1 MiB (about 4,000 packets), and when that is full, new ones are not kept. The
first 224 bytes of a frame are. A rule that nftables judges (behind the first stateful one, `filter out`, forwarded) writes its `log` to
the kernel's log instead, with the prefix netc:RULE (dmesg; journalctl -k); of another namespace than the host's only with
sysctl net.netfilter.nf_log_all_netns=1.
"""
_WAIT = 0.5  # seconds: how often a reader that follows looks without being told


class SamplesError(Exception):
    """There are no samples to read. The text says why."""


def add_parser(subparsers: Any) -> None:
    command = subparsers.add_parser(
        "samples", help="packets that rules with `sample` or `log` copied", description=_DESCRIPTION,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.add_argument("-o", "--output", type=Path, metavar="FILE.pcap", help="write a capture (nanosecond pcap) instead of lines")
    command.add_argument("--follow", action="store_true", help="go on until interrupted, or until --count")
    command.add_argument("--count", type=_count, metavar="N", help="stop after N samples")
    targets.add_options(command)
    command.set_defaults(run=run_samples)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text!r}: write a number of samples, as in --count 10")
    return int(text)


def run_samples(options: argparse.Namespace) -> int:
    with targets.opened(options) as target, _ring(target) as (ring, reader), _output(options.output) as write:
        for number, record in enumerate(_records(ring, options.follow), 1):
            sample = reader.sample(record)
            if write is not None:
                _capture(write, sample)
            else:
                _print(sample, options.json)
            if number == options.count:
                break
    return 0


def _records(ring: Ring, follow: bool) -> Iterator[bytes]:
    yield from ring.records()
    while follow:
        ring.wait(_WAIT)
        yield from ring.records()


@contextmanager
def _ring(target: targets.Target) -> Iterator[tuple[Ring, Reader]]:
    """The installed policy's ring buffer, for this process alone. Raises SamplesError."""
    from runtime import slots
    from runtime.backends import bpf
    from runtime.backends.bpf_ring import Ring
    from runtime.commands.status import installed
    from runtime.samples import Reader
    from runtime.steps import xdp_pins

    _, bundle, context = installed(target)
    known = target.store.slots()
    item = next((item for item in bundle.maps if item.role == "samples"), None)
    if item is None:
        raise SamplesError("no rule of the installed policy takes samples at the XDP stage\n"
                           "  = help: write `then sample 1/100` or `then log` behind a rule; nftables logs to the kernel's log (dmesg)")  # fmt: skip
    with _only_reader(context.state):
        try:
            with xdp_pins.opened(xdp_pins.map_path(context, item, 0)) as descriptor, Ring(descriptor, item.max_entries) as ring:
                yield ring, Reader(bundle, {nic.name: slots.of_nic(bundle, nic.name, known) for nic in bundle.nics})
        except bpf.BpfError as error:
            raise SamplesError(f"{error}\n  = help: apply the policy again") from None


@contextmanager
def _only_reader(state: Path) -> Iterator[None]:
    """Two readers would take each other's samples away. Raises SamplesError."""
    handle = os.open(state / "samples.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
    except BlockingIOError:
        raise SamplesError("another `netc samples` is reading; each sample can be shown only once") from None
    finally:
        os.close(handle)


@contextmanager
def _output(path: Path | None) -> Iterator[BinaryIO | None]:
    from runtime import samples

    if path is None:
        yield None
        return
    with path.open("wb") as file:
        _write(file, samples.pcap_header())
        yield file


def _capture(file: BinaryIO, sample: Sample) -> None:
    from runtime import samples

    _write(file, samples.pcap_record(sample))


def _write(file: BinaryIO, data: bytes) -> None:
    """Whoever follows sees whole records; a full disk names the file."""
    try:
        file.write(data)
        file.flush()
    except OSError as error:
        raise OSError(error.errno, error.strerror, file.name) from None


def _print(sample: Sample, as_json: bool) -> None:
    import json

    from runtime import output, samples

    print(json.dumps(samples.as_json(sample)) if as_json else output.printable(samples.line(sample)), flush=True)
