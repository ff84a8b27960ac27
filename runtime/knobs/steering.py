"""The NIC's own steering: RSS fields, key and indirection, and flow rules (ntuple), by ioctl."""

from __future__ import annotations

from runtime.backends import ethtool_ioctl
from runtime.knobs import Refusal, Value, Wanted, refused

_TOEPLITZ = 1  # ETH_RSS_HASH_TOP
_SYMMETRIC = "6d5a"  # a Toeplitz key of one repeated 16-bit word hashes both directions alike (Woo and Park, 2012)
_SPEC_SAYS = slice(0, 160)  # of struct ethtool_rx_flow_spec all but the location, which the driver chooses


class HashFields:
    """What the RSS hash of one flow type covers: ethtool -N DEV rx-flow-hash tcp4 sdfn."""

    resets = False
    after: tuple[str, ...] = ()

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
            raise refused(f"ETHTOOL_SRXFH {self._flow} {', '.join(fields)}", error) from None


class Symmetric:
    """Both directions of a flow on one queue, by a symmetric Toeplitz key. The value: the key in hexadecimal digits."""

    resets = False
    after: tuple[str, ...] = ()

    def __init__(self, device: str) -> None:
        self._device = device

    def read(self) -> Value:
        return self._rss().key.hex()

    def resolve(self, wanted: Wanted) -> Value:
        rss = self._rss()
        if not rss.key or rss.function not in (0, _TOEPLITZ):
            raise Refusal("ETHTOOL_GRSSH: the device shows no Toeplitz hash key", "write `prefer hash ...`, or leave `symmetric` out")
        symmetric = (_SYMMETRIC * len(rss.key))[: 2 * len(rss.key)]
        if int(str(wanted)):
            return symmetric
        if rss.key.hex() == symmetric:
            raise Refusal("the device has a symmetric key, and netc knows no other", "set one with: ethtool -X DEV hkey ...")
        return rss.key.hex()

    def write(self, value: Value) -> None:
        try:
            ethtool_ioctl.set_rss_key(self._device, bytes.fromhex(str(value)))
        except OSError as error:
            raise refused("ETHTOOL_SRSSH", error) from None

    def _rss(self) -> ethtool_ioctl.Rss:
        return _rss(self._device)


class RssTable:
    """The indirection table: ethtool -X DEV. The wish is a list of queues, spread evenly; the value is the whole table."""

    resets = False
    after: tuple[str, ...] = ("channels",)

    def __init__(self, device: str) -> None:
        self._device = device

    def read(self) -> Value:
        return list(_rss(self._device).table)

    def resolve(self, wanted: Wanted) -> Value:
        queues = [int(queue) for queue in wanted] if isinstance(wanted, tuple) else [int(wanted)]
        table = _rss(self._device).table
        if not table:
            raise Refusal("ETHTOOL_GRSSH: the device has an indirection table of no entries")
        return [queues[entry % len(queues)] for entry in range(len(table))]

    def write(self, value: Value) -> None:
        try:
            ethtool_ioctl.set_rss_table(self._device, tuple(int(queue) for queue in value) if isinstance(value, list) else ())
        except OSError as error:
            raise refused("ETHTOOL_SRSSH", error) from None


class FlowRule:
    """One flow rule in the NIC: ethtool -N DEV flow-type udp4 dst-port 53 action 7. The value: how many such rules there are."""

    resets = False
    after: tuple[str, ...] = ("channels",)

    def __init__(self, device: str, words: Wanted) -> None:
        self._device = device
        self._spec = ethtool_ioctl.flow_spec(words if isinstance(words, tuple) else (words,))

    def read(self) -> Value:
        return len(self._places())

    def resolve(self, wanted: Wanted) -> Value:
        return 1

    def write(self, value: Value) -> None:
        try:
            places = self._places()
            for location in places[int(str(value)) :]:
                ethtool_ioctl.delete_flow_rule(self._device, location)
            if value == 1 and not places:
                ethtool_ioctl.add_flow_rule(self._device, self._spec)
        except OSError as error:
            raise refused("ETHTOOL_SRXCLSRLINS" if value == 1 else "ETHTOOL_SRXCLSRLDEL", error) from None

    def _places(self) -> list[int]:
        try:
            rules = ethtool_ioctl.flow_rules(self._device)
        except OSError as error:
            raise refused("ETHTOOL_GRXCLSRLALL", error) from None
        return [location for location, spec in sorted(rules.items()) if spec[_SPEC_SAYS] == self._spec[_SPEC_SAYS]]


def _rss(device: str) -> ethtool_ioctl.Rss:
    try:
        return ethtool_ioctl.rss(device)
    except OSError as error:
        raise refused("ETHTOOL_GRSSH", error) from None
