"""What can go wrong with the virtual rack, as one kind of error whose text names the attempt and the mend."""

from __future__ import annotations


class RackError(Exception):
    """The rack cannot be fetched, booted or used. The text is for a person: what was tried, what came back, what to do."""
