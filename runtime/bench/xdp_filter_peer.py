"""xdp-filter (xdp-tools) as a peer: its own program with its own lists, loaded on `lo` of a namespace and called by netc's generator of flows.

It judges by hashes of single addresses and ports, which is all that it can say: a policy of more is not comparable. Without libxdp's dispatcher, so that
the program stands for itself. Its pins lie in a bpf file system that only the commands' own mount namespace ever sees.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

from compiler.tables.flows import Material
from runtime.backends import bpf, link
from runtime.backends.bpf_sys import BpfError
from runtime.bench.live_peer import places
from runtime.bench.rig import BenchError, Rig
from runtime.lab import netns

XDP_FILTER = "xdp-filter"
_SCRIPT = """\
set -e
mount -t bpf bpf /sys/fs/bpf
xdp-filter load lo --mode skb --features all --policy "$1"
while read -r line; do xdp-filter $line; done
"""  # the lines hold numbers, addresses and options, and nothing that a policy's author wrote
_SECONDS = 60.0


def reason_against(material: Material) -> str:
    """Why it cannot be measured beside this policy; "" when it can."""
    if shutil.which(XDP_FILTER) is None:
        return "not installed"
    return material.refused.get(XDP_FILTER, "")


@contextmanager
def beside(rig: Rig) -> Iterator[str]:
    """The program is one of the rig's subjects; yields why not, where it cannot be loaded or called. Raises NetnsError."""
    with places("x") as (name, _):
        try:
            with netns.enter(name):
                _load(rig.material)
                program = bpf.prog_by_id(link.get("lo").xdp_program)
        except (BenchError, BpfError) as error:
            yield f"not comparable: {error}"
            return
        try:
            yield _added(rig, program)
        finally:
            os.close(program)


def _added(rig: Rig, program: int) -> str:
    try:
        rig.add(XDP_FILTER, program)
    except BpfError as error:
        return f"not comparable: the kernel does not call its program as it calls the others: {error}"
    return ""


def _load(material: Material) -> None:
    lines = [line for item in material.peers if item.peer == XDP_FILTER for line in item.lines]
    default = next(outcome.verdict for outcome in material.outcomes if outcome.index < 0)
    command = ["unshare", "--mount", "sh", "-c", _SCRIPT, "sh", "allow" if default == "pass" else "deny"]
    try:
        done = subprocess.run(
            command, input="\n".join([*lines, ""]), capture_output=True, text=True, timeout=_SECONDS, check=False, env={**os.environ, "LIBXDP_SKIP_DISPATCHER": "1"}
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BenchError(f"{XDP_FILTER}: {error}") from None
    if done.returncode:
        raise BenchError(f"{XDP_FILTER}: {done.stderr.strip()[:300]}")
