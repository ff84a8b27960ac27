"""What can go wrong with the virtual rack, as one kind of error whose text names the attempt and the mend."""

from __future__ import annotations


class RackError(Exception):
    """The rack cannot be fetched, booted or used. The text is for a person: what was tried, what came back, what to do."""


class Unavailable(RackError):
    """What the rack is made of cannot be had on this machine at all: no network, no Debian, no room. Nothing of netc's is wrong with that."""
