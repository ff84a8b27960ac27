"""The policies that the sweep goes between: every stage, rules that two of them judge differently at that stage, and port 9, which all of them drop."""

from __future__ import annotations

import functools
from pathlib import Path

from compiler import bundle as bundles
from compiler import profile
from compiler.pipeline import compile_policy
from compiler.source import Sources

ROOT = Path(__file__).parents[2]
CLOSED = 9  # the port that no policy here lets through
OPEN = range(1001, 1007)  # ports that some let through
CLASSES = range(5001, 5004)  # ports by which what leaves is classified
_SHAPE = "shape wan {way} rate {rate} {{\n  class quick {{ match udp dport {port}; min {low} }}\n  class rest {{ default; min 1mbit }}\n}}\n"


def _policy(*rules: str, mode: str = "native", more: str = "") -> str:
    lines = "".join(f"  {rule}\n" for rule in ("drop udp dport 9 as closed", *rules, "default drop"))
    return f"nic wan {{ device wan0; xdp {mode} }}\n{more}filter wan in {{\n{lines}}}\n"


def _many(count: int) -> list[str]:
    return [f"drop udp src 10.{n // 200}.{n % 200}.0/24 dport {1000 + n % 7}-{1100 + n % 7} as f{n}" for n in range(count)]


_PASS = "pass udp dport {} as p{}"
_LATE = ("drop invalid as bad", "pass udp dport {} as late")
_SET = "set office = {{ 203.0.113.0/24 }}\nset banned : address timeout 10m size 16\n"
_OTHER_NIC = "nic lan {{ device lan0; xdp native }}\nfilter lan in {{\n  pass udp dport {} as lan\n  default drop\n}}\n"


def _one(port: int, **more: str) -> str:
    return _policy(_PASS.format(port, port), **more)


def _staged(port: int, late: int, shapes: str) -> str:
    return _policy(_PASS.format(port, port), _LATE[0], _LATE[1].format(late)) + shapes


def _shape(way: str, rate: str, port: int, low: str = "1mbit") -> str:
    return _SHAPE.format(way=way, rate=rate, port=port, low=low)


TEXTS = {
    "a": _one(1001),
    "b": _one(1002),
    "large": _policy(_PASS.format(1001, 1001), *_many(700)),
    "staged": _staged(1001, 1003, _shape("out", "10mbit", 5001) + _shape("in", "50mbit", 1003)),
    "staged2": _staged(1002, 1004, _shape("out", "20mbit", 5002, "2mbit") + _shape("in", "50mbit", 1004)),
    "generic": _one(1001, mode="generic"),
    "generic2": _one(1002, mode="generic"),
    "nft": _one(1005, mode="none"),
    "nft2": _one(1006, mode="none"),
    "set": _policy("drop src in banned as banned", "pass udp dport 1001 src in office as p1001", more=_SET.format()),
    "tuned": _one(1001) + "tune wan {\n  offload tso off\n  offload gro off\n}\nsteer wan { queues 2 }\nhost { sysctl net.ipv4.tcp_sack = 0 }\n",
    "larger": _policy(_PASS.format(1001, 1001), *_many(700), "pass udp dport 1004 as p1004"),
    "two": _one(1001, more=_OTHER_NIC.format(1001)),
    "two2": _one(1002, more=_OTHER_NIC.format(1002)),
}


@functools.cache
def bundle(name: str) -> bytes:
    """The bundle of a policy of TEXTS."""
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{name}.netc"
        path.write_text(TEXTS[name])
        return bundles.encode(compile_policy(path, profile.load(ROOT / "compiler/profiles/veth.yaml"), Sources()).bundle)
