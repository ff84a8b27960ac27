"""What placement decides: which intent runs where. `compiler.place` makes it, every lowering reads it."""

from __future__ import annotations

from dataclasses import dataclass

from compiler import bundle, ir


@dataclass(frozen=True, slots=True)
class ChainPlacement:
    """rules[:split] are judged by `early` (xdp, ingress or ""), the rest and the default by `late` (conntrack, egress or "").

    late == "" means that the early stage judges everything, split == len(rules). The carrier (mark bits) is needed when both are set.
    """

    chain: ir.Chain
    early: str
    split: int
    late: str


STEERS_IN_XDP = ("cpumap", "devmap", "xskmap", "drop")


@dataclass(frozen=True, slots=True)
class SteerPlacement:
    """Where one steer rule runs: ntuple, rss-context, rss (the NIC), cpumap, devmap, xskmap, drop (XDP), rps (the stack), or "" (preferred and
    not to be had).

    cpus: for cpumap the CPUs that serve the target, in order.
    """

    rule: ir.SteerRule
    where: str
    cpus: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class NicPlacement:
    """Everything of one nic: chains by direction, its steering in rule order (default last, if there is one).

    host: how the host's program runs beside that of a NIC (`xdp offload`): native or generic; "" where the nic's own word says it.
    """

    nic: ir.Nic
    index: int
    chains: tuple[ChainPlacement, ...]
    steer: tuple[SteerPlacement, ...]
    shapes: tuple[ir.Shape, ...]
    host: str = ""

    @property
    def mode(self) -> str:
        """How the host's program runs: native, generic, none."""
        return self.host or self.nic.xdp


@dataclass(frozen=True, slots=True)
class Placed:
    """The input of every lowering. `settings` holds what the profile allows, also those that steering was turned into."""

    program: ir.Program
    nics: tuple[NicPlacement, ...]
    forwards: tuple[ChainPlacement, ...]
    settings: tuple[ir.Setting, ...]
    reasons: tuple[bundle.Placement, ...]
