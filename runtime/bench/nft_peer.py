"""nftables as a peer: the same filter, as netc lowers it for netdev ingress, on live frames in a namespace of its own."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from compiler.tables.flows import Material
from runtime.backends import nft
from runtime.bench.live_peer import LivePeer, places
from runtime.bench.rig import Rig
from runtime.lab import netns
from runtime.steps.nft_content import decoded

NFT, NFT_FLOOR = "nft", "nft floor"
_TABLE = "netc"


def reason_against(material: Material) -> str:
    """Why nft cannot be measured beside this policy; "" when it can."""
    if material.stateful:
        return "limits and dynamic sets do not start alike there"
    if not material.nft:
        return "its netdev ingress cannot say this filter alone"
    try:
        nft.tables()
    except nft.NftError as error:
        return str(error)
    return ""


class Peer(LivePeer):
    """Made by `opened`."""

    def __init__(self, rig: Rig, where: tuple[str, str]) -> None:
        super().__init__(rig, NFT, NFT_FLOOR, where)
        self._ruled = where[0]
        with netns.enter(where[0]):
            nft.run([_here(command) for command in decoded(rig.material.nft[0])])
        with netns.enter(where[1]):
            nft.run(_only_dropping())

    def counted(self) -> Mapping[str, int]:
        with netns.enter(self._ruled):
            return {name: packets for name, (packets, _) in nft.counters("netdev", _TABLE).items()}


@contextmanager
def opened(rig: Rig) -> Iterator[Peer]:
    """Raises NetnsError, NftError."""
    with places("") as where:
        yield Peer(rig, where)


def _here(item: Any) -> Any:
    """A command of the bundle for this namespace: on lo, as generation 1, dropping where it would accept."""
    if isinstance(item, dict):
        return {("drop" if key == "accept" else key): _here(value) for key, value in item.items()}
    if isinstance(item, list):
        return [_here(value) for value in item]
    if isinstance(item, str):
        return "lo" if item.startswith("$dev:") else f"{item.removesuffix('$gen')}1" if item.endswith("_g$gen") else item
    return item


def _only_dropping() -> list[nft.Json]:
    place = {"family": "netdev", "table": _TABLE}
    base = {**place, "name": "base", "type": "filter", "hook": "ingress", "dev": "lo", "prio": 0, "policy": "drop"}
    return [{"add": {"table": {"family": "netdev", "name": _TABLE}}}, {"add": {"chain": base}}]
