"""Bundles made without the compiler, for tests of the runtime alone."""

from __future__ import annotations

from compiler import bundle as bundles
from compiler.bundle import Assertion, Bundle, Counter, Expect, Nic


def counter(name: str, stage: str, kind: str, index: int = 0, verdict: str = "", program: str = "") -> Counter:
    return Counter(name, stage, kind, index, verdict, "p.netc", 3, name, program)


def small_bundle(policy: str = "p.netc", **changes: object) -> Bundle:
    """One nic, no programs, no tables."""
    fields: dict[str, object] = {
        "policy": policy, "policy_sha256": "0" * 64, "netc": "0.1.0", "nics": (Nic("wan", "wan0", 0, "none"),), "maps": (),
        "programs": (), "counters": (), "nft": (), "trees": (), "settings": (), "placements": (), "expects": (), "sets": (),
    }  # fmt: skip
    return Bundle(**{**fields, **changes})  # type: ignore[arg-type]


def small_bundle_bytes(policy: str = "p.netc", **changes: object) -> bytes:
    return bundles.encode(small_bundle(policy, **changes))


def expect(counter_name: str, op: str, bound: float, of: str = "", otherwise: str = "roll-back", what: str = "packets") -> Expect:
    return Expect("wan", 10**9, otherwise, (Assertion(counter_name, what, op, bound, of, f"{counter_name} {op} {bound}", "p.netc", 9),))
