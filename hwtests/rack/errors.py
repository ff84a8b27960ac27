"""What goes wrong between the controller and a rack. Each text names the machine or the place, and what to do."""

from __future__ import annotations


class RackError(Exception):
    """A rack that cannot be used, or a machine of it that does not do what it is asked."""


class RackFileError(RackError):
    """A rack file that is wrong; the text names file and place."""


class Unsafe(RackError):
    """A port that must not be touched; the text is the reason."""


class CommandFailed(RackError):
    """A command on a machine ended with another status than was demanded."""
