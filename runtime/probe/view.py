"""A probed profile for a terminal: what there is to decide by, on one screen, each line with its evidence."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from textwrap import wrap
from typing import Any

from runtime import output

_WIDEST = 120  # columns
_INDENT = 16
_ON = ("on", "on [fixed]")


def shown(found: dict[str, Any], device: str) -> str:
    """The summary; the whole is in the profile itself."""
    head = f"{device}: {found['driver'] or 'no driver'} on Linux {found['kernel']}, {found['cpus']} CPUs"
    width = min(max(shutil.get_terminal_size().columns, 60), _WIDEST)
    parts = [output.paint(head, "bold"), *(line for row in _rows(found) for line in _drawn(*row, width))]
    if hints := found["facts"]["known"]["hints"]:
        parts += ["", output.paint("known of this driver", "bold"), *(line for hint in hints for line in _hint(hint, width))]
    return "\n".join(parts)


def _rows(found: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    facts = found["facts"]
    yield from _machine(found, facts)
    xdp = found["xdp"]
    modes = [f"{mode}{_counters(xdp) if mode == 'offload' else ''}" for mode in ("native", "generic", "offload") if xdp[mode]]
    yield _row("XDP", f"{', '.join(modes)}{'; frags' if xdp['frags'] else ''}{'; redirect' if xdp['redirect'] else ''}", facts["xdp"])
    if tried := facts["xdp"].get("tried"):
        yield "", tried, "--try"
    yield _row("RSS", _rss(found), facts["rss"])
    yield _row("flow rules", _ntuple(found), facts["ntuple"])
    yield _row("coalescing", ", ".join(facts["coalesce"].get("takes", ())) or "none", facts["coalesce"])
    yield _row("VLAN stripping", str(facts["vlan"].get("stripping", "none")), facts["vlan"])
    yield _row("LRO, GRO in NIC", ", ".join(f"{name} {facts['lro'][name]}" for name in ("rx-lro", "rx-gro-hw") if name in facts["lro"]) or "none", facts["lro"])
    yield _row("features on", _on(facts["features"]), facts["features"])
    yield "tc in the NIC", "can be switched on" if found["hw_tc_offload"] else "no", "hw-tc-offload of ETHTOOL_MSG_FEATURES_GET"
    yield _row("qdiscs", ", ".join(found["qdiscs"]) or "not known", facts["qdiscs"])
    yield _row("classifiers", ", ".join(found["classifiers"]) or "not known", facts["classifiers"])


def _counters(xdp: dict[str, Any]) -> str:
    """How many rules a program in the NIC can count."""
    room = xdp["offload_maps"]["elements"] * (xdp["offload_maps"]["value_size"] // 16)
    return f" ({room:,} counters)" if room else " (counters: not tried)"


def _machine(found: dict[str, Any], facts: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    driver = facts["driver"]
    if driver.get("bus") or driver.get("firmware"):
        node = f", memory node {found['numa']}" if found["numa"] >= 0 else ""
        yield _row("place", f"{driver['bus'] or 'no bus'}{node}; firmware {driver['firmware'] or 'not told'}", driver)
    limits = facts["mtu"]
    most = f"; with native XDP at most {found['xdp']['max_mtu']}" if found["xdp"]["max_mtu"] else ""
    yield _row("MTU", f"{found['mtu']} (from {limits['least']} to {limits['most'] or 'any'}){most}", limits)
    yield _row("queues", _counts(facts["queues"], ("rx", "tx")), facts["queues"])
    yield _row("channels", _group(facts["channels"]), facts["channels"])
    yield _row("rings", _group(facts["ring"]), facts["ring"])
    irqs = facts["interrupts"]
    yield _row("interrupts", f"{len(irqs['irqs'])}: {', '.join(map(str, irqs['irqs'][:8]))}{' ...' if len(irqs['irqs']) > 8 else ''}" if irqs["irqs"] else "none", irqs)
    counters, queues = facts["statistics"], facts["queue-statistics"].get("queues", 0)
    yield _row("statistics", f"{counters.get('counters', 0)} of the driver, {counters.get('of-queues', 0)} of them of queues; {queues} queues in the kernel's", counters)


def _row(what: str, answer: str, fact: dict[str, Any]) -> tuple[str, str, str]:
    return what, answer, str(fact.get("evidence", ""))


def _drawn(what: str, answer: str, evidence: str, width: int) -> list[str]:
    """The answer behind its name, the evidence dimmed behind it, or below where it does not fit."""
    lines = wrap(output.printable(answer), width - _INDENT, break_on_hyphens=False) or [""]
    evidence = output.printable(evidence)
    if len(lines) == 1 and _INDENT + len(lines[0]) + len(evidence) + 2 <= width:
        lines = [f"{lines[0]}  {output.paint(evidence, 'dim')}"]
    else:
        lines += [output.paint(line, "dim") for line in wrap(evidence, width - _INDENT, break_on_hyphens=False)]
    return [f"{what if not at else '':<{_INDENT}}{line}" for at, line in enumerate(lines)]


def _counts(fact: dict[str, Any], keys: tuple[str, ...]) -> str:
    return ", ".join(f"{fact[key]} {key}" for key in keys if key in fact) or "not told"


def _group(fact: dict[str, Any]) -> str:
    """`combined 4 of 8`: what is set, and the most."""
    if "now" not in fact:
        return "none to be set"
    return ", ".join(f"{key} {value} of {fact['most'].get(key, '?')}" for key, value in fact["now"].items()) or "none to be set"


def _rss(found: dict[str, Any]) -> str:
    rss = found["rss"]
    if not rss["indirection"]:
        return "none"
    words = [f"{rss['indirection']} entries", f"key of {rss['key_size']} bytes" if rss["key"] else "key not told", *rss["functions"]]
    words += ["fields can be set"] * rss["fields"] + ["symmetric"] * rss["symmetric"]
    return ", ".join([*words, f"{rss['contexts']} contexts" if rss["contexts"] else "no contexts known"])


def _ntuple(found: dict[str, Any]) -> str:
    rules = found["ntuple"]
    if not rules["rules"]:
        return "none"
    words = [f"room for {rules['rules']}", f"of {' '.join(rules['kinds'])}" if rules["kinds"] else "kinds not known (--try)"]
    return ", ".join(words + ["drop"] * rules["drop"] + ["to contexts"] * rules["contexts"])


def _on(features: dict[str, Any]) -> str:
    return ", ".join(name for name, state in features.items() if state in _ON) or "none"


def _hint(hint: dict[str, str], width: int) -> list[str]:
    return wrap(output.printable(f"{hint['message']}: {hint['mend']}"), width, initial_indent="- ", subsequent_indent="  ")
