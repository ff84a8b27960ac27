"""A default's counter names the line of its `default` statement, in every backend, also behind the text form of the IR."""

from __future__ import annotations

from pathlib import Path

from compiler import ir_text, pipeline, place, profile
from compiler.source import Sources
from compiler.targets import nft, xdp

POLICY = """\
nic wan { device wan0; xdp native }
filter wan in {
  drop udp dport 53
  default drop
}
filter wan out {
  drop udp dport 53

  default pass
}
"""


def test_the_counter_of_a_default_has_the_default_s_line(tmp_path: Path) -> None:
    path = tmp_path / "p.netc"
    path.write_text(POLICY)
    program, _ = pipeline.check(path, Sources())
    again = ir_text.parse(ir_text.dump(program, spans=True))
    for made in (program, again):
        placed = place.place(made, profile.chosen(None))
        found = [*xdp.lower(placed).counters, *nft.lower(placed).counters]
        lines = {counter.name: counter.line for counter in found if counter.kind in ("default", "seen")}
        assert lines == {"wan.in.default": 4, "wan.in.seen": 2, "wan.out.default": 9, "wan.out.seen": 6}
