"""What is known of the target's driver and touches this policy, said before an apply meets it (W711). Hints: they refuse nothing."""

from __future__ import annotations

from collections.abc import Iterator

from compiler.diagnostics import Diagnostic
from compiler.placed import STEERS_IN_XDP, NicPlacement, Placed
from compiler.profile import Profile
from compiler.tables import drivers
from compiler.tables.drivers import Constraint

_MERGING = ("lro", "rx-lro", "rx-gro-hw")


def warnings(placed: Placed, profile: Profile) -> list[Diagnostic]:
    """One for each nic and constraint that what the profile and the policy say makes likely to matter."""
    return [finding for nic in placed.nics if _runs_natively(nic) for finding in _of_nic(placed, nic, profile)]


def _runs_natively(nic: NicPlacement) -> bool:
    in_xdp = any(chain.early == "xdp" for chain in nic.chains) or any(steer.where in STEERS_IN_XDP for steer in nic.steer)
    return in_xdp and nic.mode == "native"


def _of_nic(placed: Placed, nic: NicPlacement, profile: Profile) -> Iterator[Diagnostic]:
    known = drivers.of(profile.driver, profile.kernel) if profile.driver else ()
    said = False
    for item in known:
        if _matters(item, placed, nic, profile):
            said |= item.when == "mtu"
            yield _warning(nic, profile, item.message, item.mend)
    if not said and 0 < profile.xdp.max_mtu < profile.mtu:
        message = f"its MTU was {profile.mtu} when it was probed, and native XDP takes at most {profile.xdp.max_mtu}"
        yield _warning(nic, profile, message, f"lower the MTU: ip link set DEV mtu {profile.xdp.max_mtu}")


def _matters(item: Constraint, placed: Placed, nic: NicPlacement, profile: Profile) -> bool:
    match item.when:
        case "mtu":
            return profile.mtu > item.mtu and not (item.frags and profile.xdp.frags)  # netc's native programs are aware of frags
        case "lro":
            return profile.lro and not any(_turns_off(placed, nic, name) for name in _MERGING)
        case "half-channels":
            most = profile.channels.combined or min(profile.channels.rx, profile.channels.tx)
            return most > 0 and any(s.nic == nic.nic.name and s.group == "channels" and isinstance(s.value, int) and s.value > most // 2 for s in placed.settings)
        case "native":
            return True
    return False


def _turns_off(placed: Placed, nic: NicPlacement, feature: str) -> bool:
    return any((s.nic, s.group, s.key, s.value) == (nic.nic.name, "feature", feature, 0) for s in placed.settings)


def _warning(nic: NicPlacement, profile: Profile, message: str, mend: str) -> Diagnostic:
    return Diagnostic("W711", f"nic {nic.nic.name}: the driver {profile.driver or 'of the target'}: {message}", nic.nic.span, mend)
