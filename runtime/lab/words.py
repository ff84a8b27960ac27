"""Packets in words to frames that fit the lab's cables; the compiler's child does it."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.lab.topology import Side


def frames(packets: Sequence[str], side: Side, from_dut: bool = False) -> list[bytes]:
    """One frame each, addressed to the device of `side` (from_dut: to its peer). Raises CompilerFailed with the drawn place."""
    from runtime import compiler_child

    macs = (side.mac, side.peer_mac) if from_dut else (side.peer_mac, side.mac)
    answer = compiler_child.run_child(["frames", "--src-mac", macs[0], "--dst-mac", macs[1], "--", *packets])
    if answer.status != 0:
        raise compiler_child.CompilerFailed("that is no packet", answer.messages)
    return [bytes.fromhex(text) for text in answer.output.decode("ascii").split()]
