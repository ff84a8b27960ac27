"""The order of everything: policy file → program → placed → artifacts → bundle."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TypeVar

from msgspec.structs import replace

from compiler import bundle, ir, ir_spec, kept, passes, place, protect, protect_unread, protected, scenario, syntax
from compiler.also_protect import Flow
from compiler.change_index import Changeable
from compiler.diagnostics import CompileError, Diagnostic
from compiler.driver_hints import warnings as driver_warnings
from compiler.frontend import Loaded, load
from compiler.interp import Interpreter
from compiler.passes import drop_unreachable
from compiler.profile import Profile
from compiler.source import NOWHERE, Sources
from compiler.tables import capture as captures
from compiler.targets import counter_room, ethtool, nft, offload, tc, xdp

NETC_VERSION = "0.1.0"
Located = TypeVar("Located", bundle.Counter, bundle.Setting, bundle.Placement, bundle.Assertion, bundle.StaticSet, bundle.Protected)
MIN_FRAME = 14  # bytes: the kernel's test run refuses less


@dataclass(frozen=True, slots=True)
class Compilation:
    """A compiled policy with what a reader may want to see of each stage. `sources`: C text by program name; `changeable`: the programs
    that take changes of single rules (change_index).

    program: with the rules that `placed` has no more since no packet gets to them: what is held to the policy is held to this one.
    """

    program: ir.Program
    placed: place.Placed
    bundle: bundle.Bundle
    sources: dict[str, str]
    warnings: list[Diagnostic]
    statements: list[syntax.Statement]
    changeable: tuple[Changeable, ...]


def check(path: Path, sources: Sources, also: Flow | None = None) -> tuple[ir.Program, list[Diagnostic]]:
    """Parse, resolve, check, prove. Returns the program and its lints. Raises CompileError."""
    loaded = _checked(path, sources, also)
    return loaded.program, loaded.warnings


def _checked(path: Path, sources: Sources, also: Flow | None) -> Loaded:
    loaded = load(path, sources)
    ir_spec.check(loaded.program)
    if cuts := protect.prove(loaded.program, also_protected(loaded.program, also)):
        raise CompileError([*loaded.warnings, *cuts])
    return loaded


def also_protected(program: ir.Program, also: Flow | None) -> tuple[ir.Protect, ...]:
    """What is to be proved of the program beside its own promises."""
    return also.protects({nic.name: nic.device for nic in program.nics}) if also else ()


def prove_bundle(whole: bundle.Bundle, also: Flow, shown: Sources) -> None:
    """Prove the flow of a bundle's policy. Findings are drawn by `shown`. Raises CompileError, kept.KeptError."""
    sources = kept.KeptSources(whole, shown)
    check(sources.policy, sources, also)


def compile_policy(path: Path, profile: Profile, sources: Sources, also: Flow | None = None) -> Compilation:
    """Everything, from the file to the bundle; no privilege and no live system. also: proved too; changes nothing of the bundle. Raises CompileError."""
    loaded = _checked(path, sources, also)
    program, warnings = loaded.program, loaded.warnings
    counter_room.check(program)
    optimised, found = passes.run(program)
    placed, covered = drop_unreachable.run(place.place(optimised, profile))
    said = {warning.span for warning in warnings if warning.code == "W005"}
    found = [*found, *protect_unread.unread(placed), *driver_warnings(placed, profile), *(item for item in covered if item.span not in said)]
    made = xdp.lower(placed)
    on_nics = offload.lower(placed, profile.xdp.offload_maps)
    shaped = tc.lower(placed)
    filtered = nft.lower(placed)
    whole = bundle.Bundle(
        policy=path.name,
        policy_sha256=sources.digest(),
        netc=NETC_VERSION,
        nics=tuple(bundle.Nic(n.nic.name, n.nic.device, n.index, n.mode) for n in placed.nics),
        maps=_once((*made.maps, *shaped.maps)),
        programs=(*made.programs, *shaped.programs),
        counters=(*made.counters, *shaped.counters, *filtered.counters),
        nft=filtered.nft,
        trees=shaped.trees,
        settings=ethtool.lower(placed),
        placements=(*placed.reasons, *made.reasons, *on_nics.reasons),
        expects=tuple(map(_expect, optimised.expects)),
        sets=tuple({item.map: item for item in (*made.sets, *shaped.sets)}.values()),
        static=tuple(_static(item, sources) for item in program.sets if item.size is None),
        sources=kept.packed(sources),
        profile=kept.packed_profile(profile),
        protected=protected.flows(program),
        offloads=on_nics.offloads,
    )
    texts = {**made.sources, **shaped.sources, **on_nics.sources}
    named = _named_from(whole, path.parent, sources)
    return Compilation(optimised, placed, named, texts, [*warnings, *found, *on_nics.warnings], loaded.statements, made.changeable)


def recompile(whole: bundle.Bundle, shown: Sources) -> Compilation:
    """A bundle's policy once more, with what the bundle's sets hold by hand. Findings are drawn by `shown`. Raises CompileError, kept.KeptError."""
    sources = kept.KeptSources(whole, shown)
    return compile_policy(sources.policy, kept.profile_of(whole), sources)


def _static(item: ir.Set, sources: Sources) -> bundle.StaticSet:
    ranges = kept.encoded(item.type, item.ranges)
    return bundle.StaticSet(item.name, item.type, ranges, item.span.file, item.span.line, item.name in sources.by_hand)


def _once(maps: tuple[bundle.Map, ...]) -> tuple[bundle.Map, ...]:
    """Maps that the xdp and the tc programs share are listed by both."""
    return tuple({item.id: item for item in maps}.values())


def _named_from(whole: bundle.Bundle, folder: Path, sources: Sources) -> bundle.Bundle:
    """The bundle with file names as seen from the policy's folder: the same policy gives the same bytes wherever it lies."""

    @cache  # a large policy asks a hundred thousand times
    def seen_from(file: str) -> str:
        return os.path.normpath(sources.names[file]) if file in sources.names else os.path.relpath(file, folder)

    def renamed(items: tuple[Located, ...]) -> tuple[Located, ...]:
        return tuple(replace(item, file=seen_from(item.file)) if item.file and item.file != NOWHERE.file else item for item in items)

    return replace(
        whole,
        counters=renamed(whole.counters),
        settings=renamed(whole.settings),
        static=renamed(whole.static),
        protected=renamed(whole.protected),
        placements=renamed(whole.placements),
        expects=tuple(replace(each, assertions=renamed(each.assertions)) for each in whole.expects),
    )


def _expect(expect: ir.Expect) -> bundle.Expect:
    assertions = tuple(
        bundle.Assertion(a.counter, a.what, a.op, a.bound, a.of, a.text, a.span.file, a.span.line) for a in expect.assertions
    )
    return bundle.Expect(expect.nic, expect.window, expect.otherwise, assertions)


def judge_capture(path: Path, capture: Path, nic: str, profile: Profile, sources: Sources) -> Iterator[dict[str, object]]:
    """What the early stage of `nic` does with every packet of a capture, by the reference interpreter; time is the capture's.

    Yields n (from 1), verdict (pass, drop, handed-on, refused), rule (counter name) and bytes. Raises CompileError, captures.CaptureError.
    """
    program, placed = _placed(path, profile, sources)
    interpreter = Interpreter(program, {c.chain.name: c.split for n in placed.nics for c in n.chains if c.early})
    nic = nic or program.nics[0].name
    for number, (time, frame) in enumerate(captures.on_the_clock(captures.read(capture)), 1):
        if len(frame) < MIN_FRAME:
            yield {"n": number, "verdict": "refused", "rule": "", "bytes": len(frame)}
            continue
        judged = interpreter.judge(frame, nic, "in", time)
        yield {"n": number, "verdict": judged.verdict, "rule": judged.rule, "bytes": judged.bytes}


def _placed(path: Path, profile: Profile, sources: Sources) -> tuple[ir.Program, place.Placed]:
    program, _ = check(path, sources)
    optimised, _ = passes.run(program)
    return optimised, place.place(optimised, profile)


def run_scenarios(path: Path, profile: Profile, sources: Sources) -> dict[str, object]:
    """A policy's tests on the interpreter, and the plan by which the kernel runs the same steps (compiler.scenario.plan).

    {"interp": [{test, step, held, expected, got, text, file, line}, ...], "plan": [...]}. Raises CompileError.
    """
    program, _ = _placed(path, profile, sources)
    results = [
        {"test": r.test, "step": r.step, "held": r.held, "expected": r.expected, "got": r.got, "text": r.text, "file": r.span.file, "line": r.span.line}
        for r in scenario.run(program)
    ]
    return {"interp": results, "plan": scenario.plan(program)}
