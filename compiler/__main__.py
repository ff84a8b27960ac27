"""What `python -I -m compiler` runs: the compiler's own command line, which the runtime starts as an unprivileged child."""

import gc

from compiler.cli import main

if __name__ == "__main__":
    gc.set_threshold(200_000, 50, 100)  # a policy of 100,000 rules is millions of nodes, none of them garbage: looking took half the time
    raise SystemExit(main())
