"""A bounded part of the virtual rack as one test of `make test`: where NETC_RACK_PART is set, as `.ci/run` does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import warnings

import pytest

from hwtests.virtual import part

_ENOUGH = 11  # probe on five ports, filter and steering on three of them, steering by the stack on the other two; what a NIC cannot do is skipped
_CLOSING = re.compile(r"=+ (?:(\d+) failed, )?(\d+) passed")


@pytest.mark.skipif(not os.environ.get("NETC_RACK_PART"), reason="NETC_RACK_PART=1 runs a part of the virtual rack here, as .ci/run does (4 minutes)")
def test_real_drivers_in_the_virtual_rack() -> None:
    """igb, virtio_net, vmxnet3, e1000e and netdevsim in one machine. Where QEMU and the kernel cannot be had at all it is skipped, and warned of."""
    if os.geteuid() != 0:
        pytest.skip("needs root: taps in network namespaces")
    done = subprocess.run([sys.executable, "-m", "hwtests.virtual", "part"], cwd=part.ROOT, capture_output=True, text=True, check=False)
    if done.returncode == part.UNAVAILABLE:
        reason = next(line for line in done.stdout.splitlines() if line.startswith("NO REAL DRIVER"))
        warnings.warn(reason, stacklevel=1)
        pytest.skip(reason)
    assert done.returncode == 0, f"exit status {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr[-2000:]}"
    closing = _CLOSING.findall(done.stdout)
    assert closing and int(closing[-1][1]) >= _ENOUGH, done.stdout[-3000:]
