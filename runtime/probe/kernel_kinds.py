"""The queueing disciplines and classifiers of this kernel: what shaping emits is tried, what people ask for beside it is looked up first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from runtime.backends import tc_kinds, tc_options
from runtime.probe.asking import Facts, refusal

_SHAPING = ("htb", "mq", "clsact", "ingress", *tc_options.KINDS)
_ASKED_FOR = ("cbs", "cake_mq", "choke", "drr", "dualpi2", "etf", "ets", "fq_pie", "hfsc", "hhf", "mqprio", "multiq", "netem", "pfifo_head_drop", "pie", "plug",
              "prio", "red", "sfb", "skbprio", "taprio", "tbf")  # fmt: skip
_CLASSIFIERS = ("bpf", "flower", "u32", "matchall", "basic", "cgroup", "flow", "fw", "route")


def ask_kinds(facts: Facts) -> tuple[list[str], list[str]]:
    """The `qdiscs` and `classifiers` of the profile."""
    modules = tc_kinds.listed_modules()
    facts["qdiscs"] = _kinds("sch", dict.fromkeys(_SHAPING), _ASKED_FOR, modules, tc_kinds.qdiscs)
    facts["classifiers"] = _kinds("cls", {"bpf": None}, _CLASSIFIERS[1:], modules, tc_kinds.classifiers)
    return _had(facts["qdiscs"]), _had(facts["classifiers"])


def _kinds(prefix: str, tried: Mapping[str, None], others: Sequence[str], modules: frozenset[str], ask: Callable[[Sequence[str]], dict[str, str]]) -> Facts:
    """kind -> yes, where from, or the kernel's words. Asking loads a module: kinds that are only listed stay as they are."""
    listed = {kind: f"yes, as module {prefix}_{kind}" for kind in others if f"{prefix}_{kind}" in modules}
    evidence = f"tried in a network namespace of its own (RTM_NEW{'QDISC' if prefix == 'sch' else 'TFILTER'}); as module: listed in /lib/modules"
    try:
        said = {kind: words or "yes" for kind, words in ask([kind for kind in (*tried, *others) if kind not in listed]).items()}
    except OSError as error:
        said = {kind: f"yes, as module {prefix}_{kind}" for kind in tried if f"{prefix}_{kind}" in modules}
        evidence = f"listed in /lib/modules; not tried: {refusal(error)} (it takes CAP_SYS_ADMIN)"
    return {**dict(sorted({**said, **listed}.items())), "evidence": evidence}


def _had(said: Facts) -> list[str]:
    return [kind for kind, words in said.items() if kind != "evidence" and str(words).startswith("yes")]
