"""hwtests on one NIC named as the kernel's own driver tests name it: NETIF, LOCAL_V4, REMOTE_V4, REMOTE_TYPE, REMOTE_ARGS."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[3]
QUEUES = ("numrxqueues", "2", "numtxqueues", "2")


def test_one_nic_and_a_remote_namespace(make_netns: Callable[[], str]) -> None:
    near, far = make_netns(), make_netns()
    subprocess.run(["ip", "-n", near, "link", "add", "nut0", *QUEUES, "type", "veth", "peer", "name", "far0", *QUEUES, "netns", far], check=True)
    for space, device, address in ((near, "nut0", "198.18.5.1/24"), (far, "far0", "198.18.5.2/24")):
        inside = ["nsenter", f"--net=/run/netns/{space}"]
        subprocess.run([*inside, "sysctl", "-qw", f"net.ipv6.conf.{device}.disable_ipv6=1"], check=True)
        subprocess.run([*inside, "ip", "addr", "add", address, "dev", device], check=True)
        subprocess.run([*inside, "ip", "link", "set", device, "up"], check=True)
    names = {"NETIF": "nut0", "LOCAL_V4": "198.18.5.1", "REMOTE_V4": "198.18.5.2", "REMOTE_TYPE": "netns", "REMOTE_ARGS": far,
             "NETC": str(Path(sys.executable).with_name("netc"))}  # fmt: skip
    argv = ["nsenter", f"--net=/run/netns/{near}", sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "hwtests/test_filter.py", "-k", "nothing_stays"]
    done = subprocess.run(argv, cwd=ROOT, env={**os.environ, **names}, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0 and "1 passed" in done.stdout, done.stdout + done.stderr
