"""The compiler's command line: results on stdout, findings on stderr, exit status 1 when the input is refused.

`netc` runs it as a child without privileges; it also works by itself: `python -I -m compiler compile edge.netc -o edge.bundle`.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from compiler.diagnostics import CompileError, Diagnostic
from compiler.frames import FrameError
from compiler.import_classbench import ImportFailed
from compiler.kept import KeptError
from compiler.source import NOWHERE, Sources
from compiler.tables.capture import CaptureError

if TYPE_CHECKING:
    from compiler.also_protect import Flow
    from compiler.pipeline import Compilation

STAGES = ("ir", "c", "tc", "nft", "ethtool", "plan")


def main(arguments: list[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    sources = Sources()
    try:
        found: list[Diagnostic] = options.run(options, sources)
        sys.stdout.flush()  # a full disk is found here, not when the interpreter ends
    except CompileError as error:
        _report(error.diagnostics, sources, options)
        return 1
    except MemoryError:
        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        room = "there is" if most == resource.RLIM_INFINITY else f"the {most >> 20} MiB that it may take"
        _report([Diagnostic("N901", f"compiling this takes more memory than {room}", NOWHERE, "make sets smaller, or put similar rules into one with sets")],
                sources, options)  # fmt: skip
        return 1
    except (CaptureError, FrameError, ImportFailed, KeptError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except OSError as error:
        where = error.filename or f"writing the result (temporary files go to {tempfile.gettempdir()})"
        print(f"error: {where}: {error.strerror}", file=sys.stderr)
        return 1
    _report(found, sources, options)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="netc-compiler", description=__doc__)
    parser.add_argument("--json", action="store_true", help="findings as JSON lines on stderr")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for name, run, text in (
        ("compile", _compile, "a policy to a bundle, or one stage of it as text"),
        ("check", _check, "everything that `compile` says of a policy, without the bundle; no output when it is right"),
        ("interp", _interp, "judge a capture by the reference interpreter: one JSON line a packet"),
        ("scenarios", _scenarios, "run a policy's tests on the interpreter; JSON with the plan for the kernel"),
    ):
        command = commands.add_parser(name, help=text, description=text)
        command.add_argument("file", type=Path)
        command.add_argument("--target", help="capability profile: a YAML file of `netc probe`, or one of netc's own by name")
        command.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
        command.set_defaults(run=run)
        if name == "compile":
            command.add_argument("-o", "--output", default="-", help="bundle file; - is stdout")
            command.add_argument("--emit", choices=STAGES, help="print a stage instead of making a bundle")
            command.add_argument("--index", type=Path, help="write here what a later change of single rules has to know")
            _add_also(command)
        if name == "interp":
            command.add_argument("capture", type=Path)
            command.add_argument("--nic", default="", help="the nic that the packets come in by; the first of the policy")
    changing = commands.add_parser("members", help="a bundle again, with other members in one fixed set: a line of JSON, then the bundle")
    changing.add_argument("file", type=Path)
    changing.add_argument("set")
    changing.add_argument("action", choices=("add", "del", "replace", "clear"))
    changing.add_argument("words", nargs="*")
    changing.add_argument("--from", dest="list", type=Path)
    changing.add_argument("--called", default="")
    changing.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    changing.set_defaults(run=_members)
    proving = commands.add_parser("prove", help="prove one more protected flow of a bundle's policy; no output when it holds")
    proving.add_argument("file", type=Path)
    _add_also(proving)
    proving.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    proving.set_defaults(run=_prove)
    explain = commands.add_parser("explain", help="the page of a diagnostic's code")
    explain.add_argument("code")
    explain.set_defaults(run=_explain, file=Path("-"))
    frames = commands.add_parser("frames", help="packets in words to frames, one line of hexadecimal digits each")
    frames.add_argument("packets", nargs="+", metavar="PACKET")
    frames.add_argument("--src-mac", default="")
    frames.add_argument("--dst-mac", default="")
    frames.set_defaults(run=_frames, file=Path("-"))
    importing = commands.add_parser("import", help="a filter set of another tool to a policy, on stdout")
    importing.add_argument("format", choices=("classbench",))
    importing.add_argument("file", type=Path)
    importing.add_argument("--protocol", action="append", default=[], metavar="N=M")
    importing.add_argument("--nic", default="port")
    importing.add_argument("--device", default="eth0")
    importing.set_defaults(run=_import)
    _add_bench(commands)
    return parser


def _add_also(command: argparse.ArgumentParser) -> None:
    command.add_argument("--also-protect", dest="also", type=_flow, metavar="JSON", help="a connection to prove too (compiler.also_protect.Flow)")


def _flow(text: str) -> Flow:
    from compiler import also_protect

    return also_protect.decode(text)


def _add_bench(commands: Any) -> None:
    benching = commands.add_parser("bench", help="what a measurement needs: programs, flows and what each flow must meet, on stdout")
    benching.add_argument("file", type=Path)
    benching.add_argument("--as", dest="kind", choices=("policy", "classbench", "prefixes"), default="policy")
    benching.add_argument("--flows", type=int, required=True)
    benching.add_argument("--first", type=int, default=0)
    benching.add_argument("--protocol", action="append", default=[])
    benching.add_argument("--nic", default="")
    benching.add_argument("--by-hand", type=Path)
    benching.add_argument("--seed", type=int, default=1)
    benching.add_argument("--pieces", action="store_true")
    benching.add_argument("--nft", action="store_true")
    benching.add_argument("--peer", action="append", default=[], choices=("iptables", "xdp-filter"))
    benching.add_argument("--target")
    benching.add_argument("--json", action="store_true", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    benching.set_defaults(run=_bench)


def _report(found: list[Diagnostic], sources: Sources, options: argparse.Namespace) -> None:
    for diagnostic in found:
        print(json.dumps(diagnostic.as_json()) if options.json else diagnostic.draw(sources), file=sys.stderr)
    errors = sum(d.is_error for d in found)
    what = {_explain: "", _frames: ": the packet is refused", _members: ": nothing was changed"}.get(options.run, ": the policy is refused")
    if errors and not options.json:
        print(f"{errors} error{'s' * (errors > 1)}{what}", file=sys.stderr)


def _compile(options: argparse.Namespace, sources: Sources) -> list[Diagnostic]:
    from compiler import bundle, emit, profile
    from compiler.pipeline import compile_policy

    made = compile_policy(options.file, profile.chosen(options.target), sources, options.also)
    if options.emit:
        sys.stdout.write(emit.stage(made, options.emit))
    else:
        _write(options.output, bundle.encode(made.bundle))
        if options.index:
            _write_index(options, sources, made)
    return made.warnings


def _write_index(options: argparse.Namespace, sources: Sources, made: Compilation) -> None:
    """Nothing where the policy's rules cannot change one by one."""
    import msgspec

    from compiler import change_index
    from compiler.also_protect import named
    from compiler.pipeline import also_protected

    tops = change_index.statements(made.statements, str(options.file), sources)
    also = tuple(map(named, also_protected(made.program, options.also)))
    index = change_index.make(options.file, sources, tops, made.program, change_index.profile_digest(options.target), made.changeable, also)
    options.index.write_bytes(msgspec.json.encode(index) if index else b"")


def _write(output: str, data: bytes) -> None:
    """A whole file or none: it is written beside its place and renamed."""
    if output == "-":
        sys.stdout.buffer.write(data)
        return
    if Path(output).exists() and not Path(output).is_file():  # a device or a pipe is written into, not replaced by a file
        Path(output).write_bytes(data)
        return
    beside = Path(f"{output}.{os.getpid()}.tmp")
    try:
        beside.write_bytes(data)
        beside.replace(output)
    finally:
        beside.unlink(missing_ok=True)


def _prove(options: argparse.Namespace, sources: Sources) -> list[Diagnostic]:
    from compiler import bundle
    from compiler.pipeline import prove_bundle

    if options.also:
        prove_bundle(bundle.decode(options.file.read_bytes()), options.also, sources)
    return []


def _members(options: argparse.Namespace, sources: Sources) -> list[Diagnostic]:
    """The first line is what changed (compiler.set_members.Change); no bundle follows when nothing does."""
    from compiler import bundle, set_members
    from compiler.pipeline import recompile

    installed = bundle.decode(options.file.read_bytes())
    item = next(each for each in installed.static if each.name == options.set)
    given = set_members.given(options.words, options.list, options.called, item.type, sources)
    wish = set_members.change(installed, item, options.action, given)
    data, warnings = b"", []
    if wish.bundle is not None:
        made = recompile(wish.bundle, sources)
        data, warnings = bundle.encode(made.bundle), made.warnings
    told = {"added": wish.added, "kept": wish.kept, "removed": wish.removed, "absent": wish.absent}
    sys.stdout.buffer.write(json.dumps(told).encode() + b"\n" + data)
    return warnings


def _check(options: argparse.Namespace, sources: Sources) -> list[Diagnostic]:
    from compiler import profile
    from compiler.pipeline import compile_policy

    return compile_policy(options.file, profile.chosen(options.target), sources).warnings


def _interp(options: argparse.Namespace, sources: Sources) -> list[Diagnostic]:
    from compiler import profile
    from compiler.pipeline import judge_capture

    for line in judge_capture(options.file, options.capture, options.nic, profile.chosen(options.target), sources):
        print(json.dumps(line))
    return []


def _scenarios(options: argparse.Namespace, sources: Sources) -> list[Diagnostic]:
    from compiler import profile
    from compiler.pipeline import run_scenarios

    print(json.dumps(run_scenarios(options.file, profile.chosen(options.target), sources)))
    return []


def _explain(options: argparse.Namespace, sources: Sources) -> list[Diagnostic]:
    from compiler.error_codes import page

    print(page(options.code), end="")
    return []


def _frames(options: argparse.Namespace, sources: Sources) -> list[Diagnostic]:
    from compiler import frames
    from compiler.frontend import parse_packet

    macs = {key: value for key, value in (("src_mac", options.src_mac), ("dst_mac", options.dst_mac)) if value}
    for text in options.packets:
        sources.add("<packet>", text)
        print(frames.build(parse_packet(text), **macs).hex())
    return []


def _import(options: argparse.Namespace, sources: Sources) -> list[Diagnostic]:
    from compiler import import_classbench

    filters = import_classbench.read(options.file, import_classbench.replaced_protocols(options.protocol))
    sys.stdout.write(import_classbench.policy(filters, options.file.name, options.nic, options.device))
    return []


def _bench(options: argparse.Namespace, sources: Sources) -> list[Diagnostic]:
    from compiler import profile
    from compiler.bench import inputs, material
    from compiler.tables import flows

    policy = inputs.policy(options.file, options.kind, options.first, options.protocol)
    wanted = material.Wanted(options.flows, options.seed, options.nic, options.by_hand, options.pieces, options.nft, tuple(options.peer))
    sys.stdout.buffer.write(flows.encode(material.make(policy, profile.chosen(options.target), sources, wanted)))
    return []
