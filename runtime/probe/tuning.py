"""What can be tuned: channels, rings, coalescing, pause, features and private flags; and those features that XDP and tc hang on."""

from __future__ import annotations

from dataclasses import asdict
from typing import NamedTuple

from runtime.backends import ethtool
from runtime.backends.ethtool import Feature, Values
from runtime.backends.link import Link
from runtime.probe.asking import Facts, ask

_STRIPPING = ("rx-vlan-hw-parse", "rx-vlan-stag-hw-parse")
_MERGING = ("rx-lro", "rx-gro-hw")


class Tuned(NamedTuple):
    """The parts of the profile. channels, rings: the most. tc_offload: tc rules can be handed to the NIC. lro: it merged packets when asked.
    flow_rules: the driver has a feature for them that is on or can be switched on."""

    channels: dict[str, int]
    rings: dict[str, int]
    tc_offload: bool
    lro: bool
    flow_rules: bool


def ask_tuning(facts: Facts, found: Link) -> Tuned:
    """Ask, and fill in the facts."""
    groups = {group: _group(facts, found.name, group) for group in ethtool.GROUPS}
    features = ask(facts, "features", "ETHTOOL_MSG_FEATURES_GET", lambda: ethtool.features(found.name), _words) or {}
    ask(facts, "private-flags", "ETHTOOL_MSG_PRIVFLAGS_GET", lambda: ethtool.private_flags(found.name), dict)
    if coalescing := groups["coalesce"]:
        facts["coalesce"]["takes"] = sorted(coalescing.now)  # the kernel answers with what the driver declares in supported_coalesce_params
    facts["vlan"] = _vlan(found, features)
    facts["lro"] = _merging(features)
    merging = any(name in features and features[name].active for name in _MERGING)
    return Tuned(_most(groups["channels"], ("combined", "rx", "tx")), _most(groups["ring"], ("rx", "tx")),
                 _can_be_on(features.get("hw-tc-offload")), merging, _can_be_on(features.get("rx-ntuple-filter")))  # fmt: skip


def _can_be_on(feature: Feature | None) -> bool:
    return feature is not None and (feature.active or not feature.fixed)


def _group(facts: Facts, device: str, group: str) -> Values | None:
    return ask(facts, group, ethtool.message(group), lambda: ethtool.get(device, group), asdict)


def _most(values: Values | None, keys: tuple[str, ...]) -> dict[str, int]:
    return {key: values.most.get(key, 0) if values else 0 for key in keys}


def _words(features: dict[str, Feature]) -> Facts:
    return {name: state(feature) for name, feature in features.items()}


def state(feature: Feature) -> str:
    """As ethtool -k says it."""
    return ("on" if feature.active else "off") + (" [fixed]" if feature.fixed else " [requested on]" if feature.wanted and not feature.active else "")


def _vlan(found: Link, features: dict[str, Feature]) -> Facts:
    if found.kind == "veth":
        return {"evidence": "veth strips nothing; whether XDP sees tags is up to the peer's tx-vlan-hw-insert"}
    told = {name: state(features[name]) for name in _STRIPPING if name in features}
    if not told:
        return {"evidence": "ETHTOOL_MSG_FEATURES_GET gave no answer"}
    on = [features[name] for name in told if features[name].active]
    words = "tags stay in the frame" if not on else "the driver cannot switch it" if any(feature.fixed for feature in on) else "netc turns it off where XDP is used"
    return {"stripping": told.get(_STRIPPING[0], "off"), **told, "evidence": f"ETHTOOL_MSG_FEATURES_GET; {words}"}


def _merging(features: dict[str, Feature]) -> Facts:
    told = {name: state(features[name]) for name in _MERGING if name in features}
    return {**told, "evidence": "ETHTOOL_MSG_FEATURES_GET; many drivers refuse native XDP while one of them is on" if told else "ETHTOOL_MSG_FEATURES_GET gave no answer"}
