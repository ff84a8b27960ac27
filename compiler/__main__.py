"""What `python -I -m compiler` runs: the compiler's own command line, which the runtime starts as an unprivileged child."""

from compiler.cli import main

if __name__ == "__main__":
    raise SystemExit(main())
