"""Capability profiles: what a target NIC, its driver and its kernel can do. A YAML file, written by `netc probe DEV`, or one of netc's own.

Reading is strict: an unknown key or a wrong type is a ProfileError that names the place. What is not in the file is what a bare NIC
lacks, so a short file never promises too much. `facts` is for people: placement never reads it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from compiler.diagnostics import CompileError, Diagnostic
from compiler.source import Span

FORMAT = "netc-profile 1"
_MAX_FILE = 1 << 20  # bytes
_MAX_DEPTH = 16
_SHIPPED = Path(__file__).parent / "profiles"
_Count = Annotated[int, msgspec.Meta(ge=0, le=1 << 20)]
_Word = Annotated[str, msgspec.Meta(pattern=r"^[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*\Z", max_length=128)]  # is shown on terminals
FlowKind = Literal["tcp4", "udp4", "sctp4", "ah4", "esp4", "ip4", "tcp6", "udp6", "sctp6", "ah6", "esp6", "ip6", "ether"]  # as ethtool -N names them
HashFunction = Literal["toeplitz", "xor", "crc32"]  # as ethtool -x names them
HashTransform = Literal["symmetric-xor", "symmetric-or-xor"]  # as ethtool -X xfrm names them

_HELP = "write one with: netc probe DEV -o FILE"


class ProfileError(CompileError):
    """A profile that cannot be used: one finding (N711) that names the file, the place in it and what would be right."""

    def __init__(self, file: str, message: str, helps: str = _HELP, mark: Any = None) -> None:
        """mark: where YAML found it (line and column from 0), if it knows."""
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        shown = "".join(char if char.isprintable() else f"\\x{ord(char):02x}" for char in message)  # a key may be anything
        super().__init__([Diagnostic("N711", shown, Span(file, line, column, line, column + 1), helps)])


class _Strict(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class OffloadMaps(_Strict, frozen=True):
    """The largest array that the NIC's own memory takes for a program in it: elements, and bytes of each. 0: none, or not tried."""

    elements: _Count = 0
    value_size: _Count = 0

    @property
    def pairs(self) -> int:
        """Counters in one element: packets and bytes, 8 bytes each."""
        return self.value_size // 16


class Xdp(_Strict, frozen=True):
    """native, generic, offload: the modes there are. offload_maps: what a program in the NIC can count into. metadata: the skb keeps what XDP wrote in front of the packet (the carrier between
    stages). cpumap_metadata: also over a cpumap redirect. redirect: cpumap, devmap and xskmap redirects work. frags: a program that is
    aware of multi-buffer frames gets them (netc's are). max_mtu: bytes; the largest with which native XDP can be attached (0: unknown)."""

    native: bool = False
    generic: bool = True
    offload: bool = False
    offload_maps: OffloadMaps = OffloadMaps()
    metadata: bool = False
    cpumap_metadata: bool = False
    redirect: bool = True
    frags: bool = False
    max_mtu: _Count = 0


class Ntuple(_Strict, frozen=True):
    """rules: how many flow rules the NIC's table holds (ETHTOOL_GRXCLSRLCNT); 0: none. kinds: the flow types that it was seen to take (empty:
    not tried). drop: a rule may drop (RX_CLS_FLOW_DISC). contexts: a rule may name an RSS context (FLOW_RSS)."""

    rules: _Count = 0
    kinds: tuple[FlowKind, ...] = ()
    drop: bool = False
    contexts: bool = False


class Rss(_Strict, frozen=True):
    """indirection: entries of the RSS indirection table; 0: none. fields: the hash's packet fields can be set. key: it has a hash key, of
    key_size bytes (0: unknown). symmetric: both directions of a flow can be hashed alike. contexts: how many can be made beside the main
    one. functions: the hash functions that can be chosen, the one in use first (empty: unknown). transforms: what it can do to a flow before
    it is hashed, so that both directions hash alike (RXH_XFRM_SYM_XOR, RXH_XFRM_SYM_OR_XOR); the first is taken."""

    indirection: _Count = 0
    fields: bool = False
    key: bool = False
    symmetric: bool = False
    key_size: _Count = 0
    contexts: _Count = 0
    functions: tuple[HashFunction, ...] = ()
    transforms: tuple[HashTransform, ...] = ()


class Channels(_Strict, frozen=True):
    """The most of each kind there can be (ETHTOOL_MSG_CHANNELS_GET); 0: none of that kind, or unknown where all are 0."""

    combined: _Count = 0
    rx: _Count = 0
    tx: _Count = 0


class Rings(_Strict, frozen=True):
    """The most descriptors that a ring can have (ETHTOOL_MSG_RINGS_GET); 0: unknown, or not to be set."""

    rx: _Count = 0
    tx: _Count = 0


class Profile(_Strict, frozen=True):
    """queues: most receive queues (0: unknown). cpus: CPUs of the machine (0: unknown, then only the runtime can check them).

    qdiscs, classifiers: the kinds that the kernel has (empty: unknown). hw_tc_offload: tc rules can be handed to the NIC. lro: it merged packets (LRO
    or hardware GRO was on) when it was probed. mtu: bytes, as it
    was set when the NIC was probed (0: unknown). numa: the memory node that the NIC hangs on (-1: unknown, or there is only one)."""

    format: str
    name: _Word
    driver: _Word = ""
    kernel: _Word = ""
    cpus: _Count = 0
    queues: _Count = 0
    mtu: _Count = 0
    numa: Annotated[int, msgspec.Meta(ge=-1, le=1 << 20)] = -1
    xdp: Xdp = Xdp()
    ntuple: Ntuple = Ntuple()
    rss: Rss = Rss()
    channels: Channels = Channels()
    rings: Rings = Rings()
    qdiscs: tuple[_Word, ...] = ()
    classifiers: tuple[_Word, ...] = ()
    hw_tc_offload: bool = False
    lro: bool = False
    facts: dict[str, Any] = {}


def shipped() -> tuple[str, ...]:
    """The names of the profiles that come with netc."""
    return tuple(sorted(path.stem for path in _SHIPPED.glob("*.yaml")))


@cache
def default() -> Profile:
    """The profile when no --target is given."""
    return load(path_of(None))


def chosen(target: str | None) -> Profile:
    """What `--target` names: a shipped profile, or else a file; without it the default. Raises ProfileError."""
    return load(path_of(target)) if target else default()


def path_of(target: str | None) -> Path:
    """The file of what `--target` names. Raises ProfileError."""
    if not target:
        return _SHIPPED / "generic.yaml"
    if target in shipped():
        return _SHIPPED / f"{target}.yaml"
    if not Path(target).exists():
        helps = f"name a file or one of {', '.join(shipped())}; write a file with: netc probe DEV -o {target}"
        raise ProfileError(target, f"there is no profile {target!r}", helps)
    return Path(target)


def load(path: Path) -> Profile:
    """Read one profile file. Raises ProfileError."""
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise ProfileError(str(path), f"the profile cannot be read: {error.strerror}") from None
    if len(data) > _MAX_FILE:
        raise ProfileError(str(path), f"over {_MAX_FILE} bytes; that is not a capability profile")
    return _convert(_parse(data, path), path)


def _parse(data: bytes, path: Path) -> object:
    import yaml

    try:
        text = data.decode()
        _refuse_traps(text, path)
        return yaml.safe_load(text)
    except UnicodeDecodeError:
        raise ProfileError(str(path), "not UTF-8 text") from None
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        problem = getattr(error, "problem", None) or error
        raise ProfileError(str(path), f"not YAML: {problem}", mark=getattr(error, "problem_mark", None)) from None


def _refuse_traps(text: str, path: Path) -> None:
    """YAML aliases let a small file grow without bound ("billion laughs"), and deep nesting takes quadratic time. A profile has neither."""
    import yaml

    depth = 0
    for token in yaml.scan(text, Loader=yaml.SafeLoader):
        if isinstance(token, yaml.AliasToken | yaml.AnchorToken):
            raise ProfileError(str(path), "anchors and aliases are not allowed in a profile", mark=token.start_mark)
        depth += isinstance(token, yaml.BlockMappingStartToken | yaml.BlockSequenceStartToken)
        depth += isinstance(token, yaml.FlowMappingStartToken | yaml.FlowSequenceStartToken)
        depth -= isinstance(token, yaml.BlockEndToken | yaml.FlowMappingEndToken | yaml.FlowSequenceEndToken)
        if depth > _MAX_DEPTH:
            message = f"nested deeper than {_MAX_DEPTH} levels; that is not a capability profile"
            raise ProfileError(str(path), message, mark=token.start_mark)


def _convert(data: object, path: Path) -> Profile:
    if not isinstance(data, dict) or data.get("format") != FORMAT:
        raise ProfileError(str(path), f"not a capability profile: the file has to say `format: {FORMAT}`")
    try:
        return msgspec.convert(data, Profile)
    except msgspec.ValidationError as error:
        raise ProfileError(str(path), _in_words(str(error))) from None


def _in_words(message: str) -> str:
    """msgspec's `Expected `int`, got `str` - at `$.rss.indirection`` with the key as YAML has it."""
    what, _, where = message.partition(" - at ")
    what = "control characters, which no driver and no kernel has in a name" if "matching regex" in what else what
    key = where.strip("`").removeprefix("$").removeprefix(".")
    return f"{key}: {what}" if key else what
