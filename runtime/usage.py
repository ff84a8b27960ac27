"""Wrong usage of a command that argparse cannot see: exit status 2, as for what it can."""

from __future__ import annotations

USAGE_STATUS = 2


class UsageError(Exception):
    """The arguments do not make a command. The text says how they would."""
