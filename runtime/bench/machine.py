"""The facts of the machine that a number depends on."""

from __future__ import annotations

import os
from pathlib import Path

_VULNERABILITIES = Path("/sys/devices/system/cpu/vulnerabilities")
_COSTLY = ("spectre_v2", "spec_rstack_overflow", "retbleed", "indirect_target_selection")  # they make calls and jumps slower


def facts(cpu: int) -> dict[str, str]:
    """What to print beside results; a fact that this kernel does not tell is left out."""
    uname = os.uname()
    found = {
        "cpu": _cpu_model(),
        "cpus": f"{os.cpu_count()}, measured on CPU {cpu}",
        "virtual": "yes" if " hypervisor" in _read(Path("/proc/cpuinfo")) else "no",
        "kernel": f"{uname.sysname} {uname.release} {uname.machine}",
        "jit": _switch("/proc/sys/net/core/bpf_jit_enable"),
        "jit hardening": _switch("/proc/sys/net/core/bpf_jit_harden"),
        "run statistics": _switch("/proc/sys/kernel/bpf_stats_enabled"),
        "governor": _read(Path(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_governor")),
        "load": " ".join(f"{value:.2f}" for value in os.getloadavg()),
    }
    for name in _COSTLY:
        found[f"mitigation {name}"] = _read(_VULNERABILITIES / name)
    return {name: value for name, value in found.items() if value}


def _cpu_model() -> str:
    for line in _read(Path("/proc/cpuinfo")).splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return os.uname().machine


def _switch(path: str) -> str:
    value = _read(Path(path))
    return {"0": "off", "1": "on", "2": "on (2)"}.get(value, value)


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
