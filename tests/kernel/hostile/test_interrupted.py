"""Ctrl-C and kill in the middle of an apply, at moments drawn by a seed: the old policy or the new one is in force afterwards, whole."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import time

import pytest

from tests.kernel import reduced
from tests.kernel.apply.hosts import udp
from tests.kernel.hostile.terminal import HANG, NETC, OTHER, POLICY, Terminal

MOMENTS = 5  # for each signal


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_one_policy_whole(installed: Terminal, number: signal.Signals) -> None:
    host, rng = installed.host, random.Random(int(number))
    bundles = []
    for name, text in (("good", POLICY), ("other", OTHER)):
        path = installed.cwd / f"{name}.bundle"
        assert installed.run("compile", installed.write(f"{name}.netc", text), "-o", path, where=False).returncode == 0
        bundles.append(path)
    began = time.monotonic()
    installed.done("apply", bundles[1])
    takes = time.monotonic() - began
    place = ["--state-dir", str(host.directory / "state"), "--bpffs", str(host.directory / "bpf")]
    for turn in range(MOMENTS):
        command = reduced.command(host.netns, [str(NETC), "apply", str(bundles[turn % 2]), *place])
        child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=installed.cwd, text=True)
        time.sleep(takes * rng.uniform(0.6 if reduced.ON else 0.3, 1.0))  # nsenter becomes netc: the same process
        child.send_signal(number)
        _, said = child.communicate(timeout=HANG)
        assert "Traceback" not in said and "this is a bug in netc" not in said, said
        assert not (host.directory / "state/journal.jsonl").exists(), said
        installed.done("verify")
        status = json.loads(installed.done("status", "--json"))
        port, rule = (53, "wan.in.dns") if status["policy"] == "good.netc" else (54, "wan.in.other")
        before = host.counts()["xdp", rule]
        host.send(udp(port), 3)
        assert host.counts()["xdp", rule] == before + 3
