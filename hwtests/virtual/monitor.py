"""QMP, as much as the rack needs of it: a cable pulled and put back, frames of a NIC recorded, the machine told to end."""

from __future__ import annotations

import json
import socket

from hwtests.virtual.errors import RackError

_PATIENCE = 30.0  # seconds: QEMU's main loop answers between two pieces of the guest's work


class Monitor:
    """The control side of one QEMU over a connected socket."""

    def __init__(self, end: socket.socket) -> None:
        end.settimeout(_PATIENCE)
        self._end = end
        self._lines = end.makefile("rb")
        self._greeted = False

    def call(self, command: str, **arguments: object) -> object:
        """What QEMU returns. Raises RackError with QEMU's words, or when it does not answer."""
        if not self._greeted:
            self._answer()
            self._greeted = True
            self.call("qmp_capabilities")
        self._end.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = self._answer()
            if "error" in answer:
                raise RackError(f"QEMU refuses {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def close(self) -> None:
        self._lines.close()
        self._end.close()

    def _answer(self) -> dict[str, dict[str, str]]:
        """The next message; events are answers of no call and are left out by the caller."""
        try:
            line = self._lines.readline()
        except OSError as error:
            raise RackError(f"QEMU's monitor: {error}") from None
        if not line:
            raise RackError("QEMU's monitor: QEMU has ended")
        return dict(json.loads(line))
