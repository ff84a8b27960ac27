"""The bounded part of the virtual rack that `.ci/run` includes: boot, probe, a filter that counts and one steering by counts on each real driver.

It fetches what is missing, and has a hard limit. `make rack-part` runs it; hwtests/test_rack_part.py makes it a test of `make test`.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from hwtests.virtual.errors import RackError, Unavailable
from hwtests.virtual.fetch import fetch

ROOT = Path(__file__).parents[2]
LIMIT = 900.0  # seconds for all of it; a quarter of that on a machine that does nothing else, half of it beside other tests
UNAVAILABLE = 77  # exit status: what the rack is made of cannot be had here (the number of a skipped test in automake)
# Natively where the driver can: there XDP steers. Where it cannot, the stack does (RPS).
CHOSEN = "asking_agrees or (rules_judge and (native or offload)) or over_cpus or (rps_and_xps and (e1000e or netdevsim))"


def run(cache: Path, limit: float = LIMIT, options: tuple[str, ...] = ()) -> int:
    """pytest's exit status, UNAVAILABLE, or 1 where the limit was reached. What happens is written to stdout."""
    end = time.monotonic() + limit
    start = time.monotonic()
    try:
        fetch(cache, say=lambda text: print(f"{time.monotonic() - start:6.1f} s  {text}", flush=True))
    except Unavailable as error:
        print(f"NO REAL DRIVER WAS TESTED: {error}", flush=True)
        return UNAVAILABLE
    except RackError as error:
        print(f"error: {error}", flush=True)
        return 1
    # the environment of an xdist worker would make this pytest one, too
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "NETC_RACK_PART"))}
    files = ("test_probe.py", "test_filter.py", "test_cpus.py")
    command = [sys.executable, "-m", "pytest", *(f"hwtests/{name}" for name in files), "--rack", "virtual", "-k", CHOSEN, "-p", "no:cacheprovider", "-v", *options]
    child = subprocess.Popen(command, cwd=ROOT, env={**environment, "NETC_RACK_CACHE": str(cache)}, start_new_session=True)
    try:
        return child.wait(max(1.0, end - time.monotonic()))
    except subprocess.TimeoutExpired:
        print(f"error: not done within {limit:g} s, fetching included", flush=True)
        return 1
    finally:
        if child.poll() is None:
            os.killpg(child.pid, signal.SIGKILL)  # QEMU ends with whoever booted it
            child.wait()
