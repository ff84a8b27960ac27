"""No change cuts the connection that it is made over: the compiler proves it of the policy's text, or the change is refused.

The flow is TCP between the client's address, from any port, and the address and port that it is connected to, on every device that it can come in
by (of a VLAN its parent, of a bridge its ports). A device that no nic is bound to is not netc's to cut.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from runtime import output, session
from runtime.processes import PROC

if TYPE_CHECKING:
    from runtime.backends.routes import Way
    from runtime.context import Context
    from runtime.session import Session

ALLOW = "--allow-lockout"
_UNKNOWN = ("it is not known from where you are connected, so no policy is proved to leave the connection alone\n"
            "  = help: write a `protect` for it into the policy; or keep SSH_CONNECTION in the environment (sudo --preserve-env=SSH_CONNECTION)")  # fmt: skip

_TUNNEL = "what carries it is not proved to be left alone\n  = help: write a `protect` for the tunnel's own packets into the policy"


class Guarded(NamedTuple):
    """A connection and the ways by which it can come in here. text: what a compiler is to prove, but for which nic is bound to which device."""

    session: Session
    ways: tuple[Way, ...]

    def option(self, bound: Mapping[str, str]) -> str:
        """--also-protect, of a compiler that reads a policy with these nics on other devices than it says."""
        devices = [way.device for way in self.ways]
        return json.dumps({"client": self.session.client, "local": self.session.local, "port": self.session.local_port, "devices": devices, "bound": dict(bound)})

    def touches(self, bindings: Mapping[str, str]) -> bool:
        """Whether the connection can come in by a device that a policy is bound to."""
        return bool({way.device for way in self.ways} & set(bindings.values()))


def guarded(context: Context) -> Guarded | None:
    """The connection that may not be cut, None where there is none in this network namespace. One that is not known is warned of. Raises NetlinkError."""
    found = session.current()
    if found.session is None:
        if found.remote and not context.netns and _somebody_is_connected():
            _warn_once(_UNKNOWN)
        return None
    from runtime.backends import routes  # netlink: only over a connection

    here, there = (routes.plain(text) for text in (found.session.local, found.session.client))
    if here not in {interface.ip for interface in routes.local_addresses()}:
        return None
    devices, index = routes.devices(), routes.device_to(there, here)
    if index in devices and devices[index].kind in routes.TUNNELS:
        _warn_once(f"you are connected through the tunnel {devices[index].name}: {_TUNNEL}")
    return Guarded(found.session, tuple(routes.ways_in(index, devices)))


@cache
def _warn_once(text: str) -> None:
    output.show_warning(text)


def _somebody_is_connected() -> bool:
    """Whether this namespace has a TCP connection from elsewhere."""
    from ipaddress import ip_address

    return any(not ip_address(each.client).is_loopback for _, each in session.established(PROC / "thread-self/net"))


def require(known: Guarded | None, bindings: Mapping[str, str], data: bytes, as_json: bool) -> None:
    """Prove that a bundle leaves the connection alone. Raises compiler_child.CompilerFailed with what cuts it (as_json: as JSON), or why it cannot be proved."""
    if known is None or not known.touches(bindings):
        return
    import tempfile

    from runtime import compiler_child

    if why := compiler_child.lacking():
        raise compiler_child.CompilerFailed(
            f"{_refused(known)}: {why}\n  = help: give it those for this command (the proof is the compiler's); {ALLOW} does it without a proof"
        )
    with tempfile.NamedTemporaryFile(prefix="netc-prove-") as file:
        file.write(data)
        file.flush()
        try:
            answer = compiler_child.run_child(["prove", file.name, "--also-protect", known.option(bindings), *(["--json"] if as_json else [])])
        except compiler_child.CompilerFailed as error:
            raise compiler_child.CompilerFailed(f"{_refused(known)}: {error}\n  = help: {ALLOW} does it without a proof", error.messages) from None
    if answer.status != 0:
        raise compiler_child.CompilerFailed(f"{_refused(known)}; nothing was changed\n  = help: {ALLOW} does it all the same", answer.messages)


def _refused(known: Guarded) -> str:
    here = known.session
    return f"it is not proved that the policy leaves the connection from {here.client} to {here.local}:{here.local_port} alone, over which this command is run"
