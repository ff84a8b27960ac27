"""A field that a program reads is parsed, and no other."""

from __future__ import annotations

import re

from compiler.targets import c_fields, c_program

_HEADERS = "".join(map(c_program.read_part, ("state.h", "keyed.h", "effects.h")))


def _read(body: str) -> set[str]:
    lines = c_fields.definitions(body, _HEADERS)
    return {line.split()[1].removeprefix("READS_") for line in lines if line.endswith(" 1")}


def test_nothing_is_read_by_a_program_that_reads_nothing() -> None:
    assert _read("return XDP_PASS;") == set()


def test_fields_of_the_body_are_read() -> None:
    assert _read("if ((p->have & HAVE_dport) && p->dport == 22 && p->src.at.family == 4 && p->src_lo) x();") == {"dport", "src_family", "src_lo"}


def test_an_address_by_itself_is_a_key() -> None:
    assert _read("netc_live(MAP(1), &p->dst.at, p->now, p->change)") == {"dst", "dst_family"}


def test_what_the_functions_of_the_body_read_is_read() -> None:
    assert _read("netc_flow(p)") == {"src_hi", "dst_hi", "src_lo", "dst_lo", "sport", "dport", "absent"}
    assert {"eth_dst", "layer3", "ttl", "proto", "tos", "length", "bytes", "src", "dst"} <= _read("return netc_route(ctx, p, 1, 2, 3);")


def test_every_field_that_the_parser_sets_can_be_asked_for() -> None:
    known = {line.split()[1] for line in c_fields.definitions("", "")}
    parser = c_program.read_part("parser.h")
    assert {f"READS_{name}" for name in re.findall(r"\bSET\((\w+), ", parser)} - {"READS_field"} <= known
    assert set(re.findall(r"READS_\w+", parser)) - {"READS_"} <= known


def test_every_function_that_takes_a_packet_is_found() -> None:
    taking = set(re.findall(r"(netc_\w+)\([^)]*packet_t \*p", _HEADERS))
    assert taking and taking <= {found[1] for found in c_fields._FUNCTION.finditer(_HEADERS)}
