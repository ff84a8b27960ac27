"""A saved plan: a bundle, the devices it is for, and what the host was when it was planned. `netc apply` does exactly that, or refuses.

The file is the line `netc-plan 1 <sha256 of the rest>`, one line of canonical JSON (`Saved`), and the bundle file's bytes. The hash proves
that it is whole, not who wrote it: the bundle in it goes through runtime.admission as any other.
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated

import msgspec

from compiler import bundle as bundles
from compiler.bundle import Count, DeviceName, Name
from runtime.live import Live

MAGIC = b"netc-plan 1 "
MAX_FILE = bundles.MAX_FILE + (16 << 20)  # bytes
_ANY = re.compile(rb"netc-plan (\d+) ")


class PlanFileError(Exception):
    """A file that is not a whole, well-formed plan. The text names what is wrong with it and the mend."""


class Saved(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """made: Unix time in seconds. policy: as the bundle calls it; target: the hash of the capability profile that it was compiled for.

    bindings: nic → device. live: what the host was, and what was to be done. bundle: the hash of the bundle that follows.
    """

    netc: str
    made: Count
    policy: str
    target: str
    bindings: dict[Name, DeviceName]
    take_over: bool
    live: Live
    bundle: Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]


def encode(saved: Saved, bundle: bytes) -> bytes:
    """The file's bytes."""
    rest = msgspec.json.encode(saved, order="deterministic") + b"\n" + bundle
    return MAGIC + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest


def decode(data: bytes) -> tuple[Saved, bytes]:
    """What was saved, and the bundle file's bytes. Raises PlanFileError."""
    if len(data) > MAX_FILE:
        raise PlanFileError(f"the file has more than {MAX_FILE} bytes: no plan is that large")
    head, _, rest = data.partition(b"\n")
    if not head.startswith(MAGIC):
        other = _ANY.match(head)
        why = f"its format is {other[1].decode()[:20]}, and this netc reads format 1" if other else "this is not a saved plan"
        raise PlanFileError(f"{why}\n  = help: make it anew with this netc: netc plan POLICY -o FILE")
    if hashlib.sha256(rest).hexdigest().encode() != head[len(MAGIC) :]:
        raise PlanFileError("the plan's hash does not fit its content: it was cut or changed\n  = help: make it anew: netc plan POLICY -o FILE")
    text, _, bundle = rest.partition(b"\n")
    try:
        saved = msgspec.json.decode(text, type=Saved)
    except (msgspec.DecodeError, RecursionError) as error:
        raise PlanFileError(f"the plan's content is not as a plan's has to be: {error}\n  = help: make it anew: netc plan POLICY -o FILE") from None
    if bundles.identity(bundle) != saved.bundle:
        raise PlanFileError("the bundle in the plan is not the one that it names\n  = help: make it anew: netc plan POLICY -o FILE")
    return saved, bundle


def target_of(bundle: bundles.Bundle) -> str:
    """The hash of the capability profile that a bundle was compiled for; "" where it has none."""
    return hashlib.sha256(bundle.profile.encode()).hexdigest() if bundle.profile else ""
