"""How the NIC spreads and steers by itself: RSS table, key, fields, function and contexts; flow rules (ntuple)."""

from __future__ import annotations

from runtime.backends import ethtool_ioctl
from runtime.backends.ethtool_ioctl import Rss
from runtime.probe import tries
from runtime.probe.asking import Facts, ask, refusal

_FUNCTIONS = {1: "toeplitz", 2: "xor", 4: "crc32"}  # ETH_RSS_HASH_TOP, _XOR, _CRC32
_TRANSFORMS = {1: "symmetric-xor", 2: "symmetric-or-xor"}  # RXH_XFRM_SYM_XOR, RXH_XFRM_SYM_OR_XOR
_NOT_TRIED = "the kernel has no query: --try asks the device"


def ask_steering(facts: Facts, device: str, attempt: bool, flow_rules: bool) -> tuple[Facts, Facts]:
    """The `rss` and `ntuple` parts of the profile. flow_rules: the driver has the feature (rx-ntuple-filter)."""
    rss = ask(facts, "rss", "ETHTOOL_GRSSH", lambda: ethtool_ioctl.rss(device), _rss_words)
    fields = {flow: found for flow in ethtool_ioctl.FLOW_TYPES if (found := _ask_fields(facts, device, flow)) is not None}
    table = ask(facts, "ntuple", "ETHTOOL_GRXCLSRLALL", lambda: ethtool_ioctl.flow_table_size(device), lambda size: {"table": size}) or 0
    if table and not flow_rules:
        facts["ntuple"]["note"] = "rx-ntuple-filter is off [fixed]: this device takes no rules"
    if attempt:
        tried = tries.on(device, rss, fields, table)
        facts["tried"] = {**tried.words, "evidence": "asked of the device, and taken back (ETHTOOL_SRXFH, ETHTOOL_SRSSH, ETHTOOL_SRXCLSRLINS)"}
    else:
        tried = tries.Tried(fields=bool(fields and rss and rss.table))
        facts["tried"] = {"evidence": f"not tried: flow rules, RSS contexts, whether hash fields can be set ({_NOT_TRIED})"}
    toeplitz = rss is not None and rss.function == 1
    if not flow_rules or (attempt and not tried.kinds):
        table = 0  # it answers the query, and takes none
    shown = {
        "indirection": len(rss.table) if rss else 0,
        "fields": tried.fields,
        "key": bool(rss and rss.key),
        "symmetric": bool(rss and ((rss.key and toeplitz) or rss.transform)),
        "key_size": len(rss.key) if rss else 0,
        "contexts": tried.contexts,
        "functions": [_FUNCTIONS[rss.function]] if rss and rss.function in _FUNCTIONS else [],
        "transforms": [_TRANSFORMS[rss.transform]] if rss and rss.transform in _TRANSFORMS else [],
    }
    return shown, {"rules": table, "kinds": list(tried.kinds), "drop": tried.drop, "contexts": tried.rules_name_contexts}


def _rss_words(rss: Rss) -> Facts:
    words: Facts = {"indirection": list(rss.table), "key": rss.key.hex(), "function": _FUNCTIONS.get(rss.function, rss.function)}
    if rss.transform:
        words["transform"] = _TRANSFORMS.get(rss.transform, rss.transform)
    return words


def _ask_fields(facts: Facts, device: str, flow: str) -> tuple[str, ...] | None:
    """What the hash of one flow type covers; None where the device does not say, which is shown once for all kinds."""
    try:
        found = ethtool_ioctl.hash_fields(device, flow)
    except OSError as error:
        facts.setdefault("hash", {"evidence": "ETHTOOL_GRXFH"})[flow] = refusal(error)
        return None
    facts.setdefault("hash", {"evidence": "ETHTOOL_GRXFH"})[flow] = ", ".join(found) or "no fields"
    return found
