"""What `python -I -m compiler` runs: the compiler's own command line, which the runtime starts as an unprivileged child."""

import gc
import os
import sys
from contextlib import suppress
from functools import partial

if __name__ == "__main__":
    if sys.argv[1:2] == ["change"]:
        from compiler import change_command

        raise SystemExit(change_command.main(sys.argv[2:]))
    gc.set_threshold(2_000_000, 50, 100)  # a policy of 100,000 rules is millions of nodes, none of them garbage: looking took half the time
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # NumPy would start a thread a CPU for linear algebra that nobody asks for: 50 ms
    from compiler.cli import main
    from compiler.targets import bcc, c_service

    if c_service.LINK in os.environ:
        bcc.elsewhere = partial(c_service.ask, int(os.environ[c_service.LINK]))

    status = main()
    with suppress(OSError):  # main has said so
        sys.stdout.flush()
    os._exit(status)  # the kernel takes back a million nodes at once; Python would visit each: a tenth of the time
