"""A program of the tests that runs on a rack's machine while frames are sent at it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hwtests.rack.errors import CommandFailed
from hwtests.rack.port import Port

_HERE = Path(__file__).parent
_AWAIT = 'i=0; while [ ! -e "$0" ] && [ $i -lt 300 ]; do i=$((i + 1)); sleep 0.1; done; [ -e "$0" ]'


@contextmanager
def running(port: Port, name: str, *words: str) -> Iterator[Callable[[], Any]]:
    """hwtests/rack/NAME.py on the port's machine: these words and a file that it writes once it is ready. The function ends it (SIGTERM); what it printed, as JSON.

    Raises CommandFailed with its own words when it does not come up or fails.
    """
    machine = port.machine
    path, ready = f"{machine.work}/{name}.py", f"{machine.work}/{name}.ready"
    machine.put(path, (_HERE / f"{name}.py").read_bytes())
    machine.run("rm", "-f", ready)
    with machine.background("python3", path, *words, ready) as finish:

        def ended() -> Any:
            done = finish(signal=15)
            if done.code or not done.out:
                raise CommandFailed(f"{port.name}: {name}.py: exit status {done.code}: {done.err.strip()[-2000:]}")
            return json.loads(done.out)

        if machine.run("sh", "-c", _AWAIT, ready, status=None, timeout=60).code:
            ended()
            raise CommandFailed(f"{port.name}: {name}.py did not get ready")
        yield ended
