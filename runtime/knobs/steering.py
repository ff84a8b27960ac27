"""The NIC's own RSS: fields, key and indirection of the device itself (context 0), by ioctl. Contexts: contexts.py; flow rules: flow_rules.py."""

from __future__ import annotations

from runtime.backends import ethtool, ethtool_ioctl
from runtime.backends.netlink import NetlinkError
from runtime.knobs import Refusal, Value, Wanted, refused

_TOEPLITZ = 1  # ETH_RSS_HASH_TOP
TRANSFORMS = {"symmetric-xor": 1, "symmetric-or-xor": 2}  # RXH_XFRM_SYM_XOR, RXH_XFRM_SYM_OR_XOR
RESETS = ("channels", "ring", "feature", "priv-flag")  # what many drivers make their queues anew for, and forget tables and rules


class HashFields:
    """What the RSS hash of one flow type covers: ethtool -N DEV rx-flow-hash tcp4 sdfn."""

    resets = False
    after: tuple[str, ...] = RESETS

    def __init__(self, device: str, flow: str) -> None:
        self._device, self._flow = device, flow

    def read(self) -> Value:
        try:
            return sorted(ethtool_ioctl.hash_fields(self._device, self._flow))
        except OSError as error:
            raise refused(f"ETHTOOL_GRXFH {self._flow}", error) from None

    def resolve(self, wanted: Wanted) -> Value:
        return sorted(map(str, wanted)) if isinstance(wanted, tuple) else [str(wanted)]

    def write(self, value: Value) -> None:
        fields = tuple(map(str, value)) if isinstance(value, list) else ()
        try:
            ethtool_ioctl.set_hash_fields(self._device, self._flow, fields)
        except OSError as error:
            refusal = refused(f"ETHTOOL_SRXFH {self._flow} {', '.join(fields)}", error)
            refusal.mend = switched_off(self._device, "rx-hashing", "rxhash")
            raise refusal from None


class HashKey:
    """The hash key, in hexadecimal digits: ethtool -X DEV hkey. The wish `symmetric`: one under which both directions of a flow hash alike."""

    resets = False
    after: tuple[str, ...] = RESETS

    def __init__(self, device: str) -> None:
        self._device = device

    def read(self) -> Value:
        return self._rss().key.hex()

    def resolve(self, wanted: Wanted) -> Value:
        rss, key = self._rss(), str(wanted)
        if not rss.key:
            raise Refusal("ETHTOOL_GRSSH: the device shows no hash key", "write `prefer hash ...`, or leave `key` out")
        if key == "symmetric":
            from compiler.tables import toeplitz

            if rss.function not in (0, _TOEPLITZ):
                raise Refusal("ETHTOOL_GRSSH: the device does not hash by Toeplitz", "write `prefer hash ...`, or leave `symmetric` out")
            return toeplitz.symmetric_key(len(rss.key)).hex()
        if len(key) != 2 * len(rss.key):
            raise Refusal(f"the device's hash key has {len(rss.key)} bytes, not {len(key) // 2}", f"write {2 * len(rss.key)} digits")
        return key

    def write(self, value: Value) -> None:
        try:
            ethtool_ioctl.set_rss(self._device, key=bytes.fromhex(str(value)))
        except OSError as error:
            raise refused("ETHTOOL_SRSSH", error) from None

    def _rss(self) -> ethtool_ioctl.Rss:
        return rss(self._device)


class SymmetricFunction:
    """Both directions of a flow on one queue, by what the NIC does to a flow before it hashes it: ethtool -X DEV xfrm. The value: RXH_XFRM_* bits."""

    resets = False
    after: tuple[str, ...] = RESETS

    def __init__(self, device: str) -> None:
        self._device = device

    def read(self) -> Value:
        return rss(self._device).transform

    def resolve(self, wanted: Wanted) -> Value:
        return TRANSFORMS[str(wanted)]

    def write(self, value: Value) -> None:
        try:
            ethtool_ioctl.set_rss(self._device, transform=int(str(value)))
        except OSError as error:
            raise refused("ETHTOOL_SRSSH input_xfrm", error) from None


class RssTable:
    """The indirection table: ethtool -X DEV. The wish is a list of queues, spread evenly; the value is the whole table."""

    resets = False
    after: tuple[str, ...] = RESETS

    def __init__(self, device: str) -> None:
        self._device = device

    def read(self) -> Value:
        return list(rss(self._device).table)

    def resolve(self, wanted: Wanted) -> Value:
        return spread(wanted, len(rss(self._device).table))

    def write(self, value: Value) -> None:
        put_table(self._device, tuple(int(queue) for queue in value) if isinstance(value, list) else ())


def put_table(device: str, table: tuple[int, ...], context: int = 0) -> None:
    """Write the table; the device's own default by giving it back, so that it follows the number of queues again as it did. Raises Refusal."""
    try:
        if not context and table == default_table(device, len(table)):
            ethtool_ioctl.reset_rss_table(device)
        else:
            ethtool_ioctl.set_rss(device, table, context=context)
    except OSError as error:
        refusal = refused("ETHTOOL_SRSSH", error)
        refusal.mend = _too_few_queues(device, table)
        raise refusal from None


def _too_few_queues(device: str, table: tuple[int, ...]) -> str:
    """What to do where the table names a queue that is not in use; "" where it names none."""
    try:
        queues = ethtool_ioctl.receive_rings(device)
    except OSError:
        return ""
    most = max(table, default=-1)
    return f"{device} has {queues} queues in use: write `queues {most + 1}` in the nic's `steer`, or `prefer default to …`" if most >= queues else ""


def fits(device: str, table: Value, now: Value) -> bool:
    """Whether a table can be written where `now` is: of that size (drivers with many queues have larger ones), and all its queues are there."""
    if isinstance(table, list) and isinstance(now, list) and len(table) != len(now):
        return False
    try:
        queues = ethtool_ioctl.receive_rings(device)
    except OSError:
        return True
    return not isinstance(table, list) or all(int(queue) < queues for queue in table)


def default_table(device: str, size: int) -> tuple[int, ...]:
    """ethtool_rxfh_indir_default: every queue in turn. () where the device does not say how many it has."""
    try:
        queues = ethtool_ioctl.receive_rings(device)
    except OSError:
        return ()
    return tuple(entry % queues for entry in range(size)) if queues else ()


def spread(wanted: Wanted, size: int) -> Value:
    """A list of queues over a whole table. Raises Refusal."""
    queues = [int(queue) for queue in wanted] if isinstance(wanted, tuple) else [int(wanted)]
    if not size:
        raise Refusal("ETHTOOL_GRSSH: the device has an indirection table of no entries")
    return [queues[entry % len(queues)] for entry in range(size)]


def rss(device: str, context: int = 0) -> ethtool_ioctl.Rss:
    """Raises Refusal."""
    try:
        return ethtool_ioctl.rss(device, context)
    except OSError as error:
        raise refused("ETHTOOL_GRSSH", error) from None


def switched_off(device: str, feature: str, short: str) -> str:
    """How to switch on what a refused change needs; "" where it is on, or not to be had."""
    try:
        found = ethtool.features(device).get(feature)
    except NetlinkError:
        return ""
    return f"{feature} is off: write `offload {short} on` in the nic's `tune`" if found and found.hw and not found.active else ""
