"""What `python -I -m compiler` runs: the compiler's own command line, which the runtime starts as an unprivileged child."""

import gc
import sys

if __name__ == "__main__":
    if sys.argv[1:2] == ["change"]:
        from compiler import change_command

        raise SystemExit(change_command.main(sys.argv[2:]))
    from compiler.cli import main

    gc.set_threshold(200_000, 50, 100)  # a policy of 100,000 rules is millions of nodes, none of them garbage: looking took half the time
    raise SystemExit(main())
