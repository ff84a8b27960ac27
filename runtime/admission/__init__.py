"""What the privileged half takes from a bundle: only what netc's own compiler could have written. Asked before anything else is done.

A bundle's hash proves that it is whole, not who wrote it. The schema (compiler.bundle) has checked every type; here stands what the steps
and backends rely on: names that refer to something, numbers that fit the kernel's fields, nft statements that only match, count and judge.
Pure: the kernel is not asked. A bundle that passes can still be refused by the device or the verifier, in their words.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Hashable, Iterable

from compiler.bundle import Bundle, Map
from runtime import objects
from runtime.admission.nft import check_nft
from runtime.admission.offload import check_offload, referred
from runtime.admission.protected import check_protected
from runtime.admission.refusal import refuse
from runtime.admission.settings import check_setting
from runtime.admission.static import check_static
from runtime.admission.trees import check_tree
from runtime.backends import bpf

MAX_MAP_MEMORY = 4 << 30  # bytes for all maps of a bundle: two sets of the largest size that the language has
_ELEMENT = 64  # bytes that the kernel spends on an entry beside key and value (struct htab_elem, lpm_trie_node)
_XDP = ("native", "generic", "none")
_STAGES = ("xdp", "ingress", "conntrack", "egress", "steer", "tc")
_VERDICTS = ("pass", "drop", "")
_OPERATORS = ("<", "<=", "=", ">=", ">")
_MEASURES = ("packets", "bytes", "drops")
_OTHERWISE = ("roll-back", "warn")


def check(bundle: Bundle) -> None:
    """Raises StepError with the first thing that no compiler of netc writes."""
    _once("nic", (nic.name for nic in bundle.nics))
    _once("nic index", (nic.index for nic in bundle.nics))
    for nic in bundle.nics:
        if nic.xdp not in _XDP:
            refuse(f"nic {nic.name}", f"no mode of XDP is called {nic.xdp!r}")
    _check_programs(bundle)
    _check_memory(bundle.maps)
    objects.validate(bundle)
    _check_counters(bundle)
    _check_expects(bundle)
    nics = {nic.name for nic in bundle.nics}
    for item in bundle.sets:
        if item.map not in {each.id for each in bundle.maps if each.role == "set"}:
            refuse(f"set {item.name}", f"map {item.map} is not a set of this bundle")
        if item.full not in ("keep", "evict") or not set(item.never) <= {each.name for each in bundle.static}:
            refuse(f"set {item.name}", f"`full {item.full}`, never {', '.join(item.never)}")
    for fixed in bundle.static:
        check_static(fixed)
    for setting in bundle.settings:
        check_setting(setting, nics)
    _once("shape", ((tree.nic, tree.direction) for tree in bundle.trees))
    counters = {counter.name for counter in bundle.counters}
    for tree in bundle.trees:
        check_tree(tree, nics, counters)
    _once("nft table", (table.family for table in bundle.nft))
    for table in bundle.nft:
        check_nft(table, nics)
    check_protected(bundle, nics)
    for program in bundle.offloads:
        check_offload(program, bundle)
    _once("program in the NIC of", (program.nic for program in bundle.offloads))


def _once(what: str, names: Iterable[Hashable]) -> None:
    name, times = next(iter(Tally(names).most_common(1)), ("", 0))
    if times > 1:
        refuse(f"{what} {name}", "it stands in the bundle twice")


def _check_programs(bundle: Bundle) -> None:
    nics = {nic.name for nic in bundle.nics}
    _once("program", ((code.nic, code.hook) for code in bundle.programs))
    for code in bundle.programs:
        if code.hook not in objects.HOOKS:
            refuse(f"program {code.name}", f"no hook is called {code.hook!r}")
        if code.nic not in nics:
            refuse(f"program {code.name}", f"there is no nic {code.nic}")
        if missing := referred(code.code) - set(code.maps):
            refuse(f"program {code.name}", f"it refers to maps that it does not name: {', '.join(map(str, sorted(missing)))}")


def _check_memory(maps: tuple[Map, ...]) -> None:
    for item in maps:
        if item.scope not in ("generation", "persistent"):
            refuse(f"map {item.name}", f"no map lives for a {item.scope!r}")
    cpus = bpf.possible_cpus()
    total = sum(
        item.max_entries * (item.key_size + item.value_size * (cpus if "percpu" in item.kind else 1) + _ELEMENT * ("array" not in item.kind))
        for item in maps
        if item.kind != "ringbuf"
    )
    total += sum(item.max_entries for item in maps if item.kind == "ringbuf")
    if total > MAX_MAP_MEMORY:
        refuse("the bundle's maps", f"they would take {total:,} bytes of kernel memory; netc gives a policy at most {MAX_MAP_MEMORY:,}",
               "make sets and `size`s smaller")  # fmt: skip


def _check_counters(bundle: Bundle) -> None:
    programs = {code.name for code in bundle.programs}
    _once("counter", ((counter.stage, counter.name) for counter in bundle.counters))
    _once("counter number", ((c.program, c.index) for c in bundle.counters if c.program))
    for counter in bundle.counters:
        if counter.stage not in _STAGES or counter.verdict not in _VERDICTS or "." not in counter.name:
            refuse(f"counter {counter.name}", f"stage {counter.stage!r}, verdict {counter.verdict!r}")
        if counter.program and counter.program not in programs:
            refuse(f"counter {counter.name}", f"there is no program {counter.program}")


def _check_expects(bundle: Bundle) -> None:
    counters = {counter.name for counter in bundle.counters}
    for expect in bundle.expects:
        if expect.otherwise not in _OTHERWISE:
            refuse(f"expect {expect.nic}", f"`else {expect.otherwise}`")
        for item in expect.assertions:
            where = f"expect {expect.nic}: {item.text}"
            if item.op not in _OPERATORS or item.what not in _MEASURES:
                refuse(where, f"{item.what!r} {item.op!r}")
            if missing := {item.counter, *([item.of] if item.of else [])} - counters:
                refuse(where, f"there is no counter {', '.join(sorted(missing))}")
