"""The RSS hash in software: Microsoft's verification suite, symmetry, the queue of a flow."""

from __future__ import annotations

import random
from ipaddress import ip_address

import pytest

from compiler.tables import toeplitz

KEY = bytes.fromhex("6d5a56da255b0ec24167253d43a38fb0d0ca2bcbae7b30b477cb2da38030f20c6a42b73bbeac01fa")
# Microsoft, "Verifying the RSS Hash Calculation": destination, its port, source, its port, hash of the addresses, hash with the ports.
SUITE = [
    ("161.142.100.80", 1766, "66.9.149.187", 2794, 0x323E8FC2, 0x51CCC178),
    ("65.69.140.83", 4739, "199.92.111.2", 14230, 0xD718262A, 0xC626B0EA),
    ("12.22.207.184", 38024, "24.19.198.95", 12898, 0xD2D0A5DE, 0x5C2B394A),
    ("209.142.163.6", 2217, "38.27.205.30", 48228, 0x82989176, 0xAFC7327F),
    ("202.188.127.2", 1303, "153.39.163.191", 44251, 0x5D1809C5, 0x10E828A2),
    ("3ffe:2501:200:3::1", 1766, "3ffe:2501:200:1fff::7", 2794, 0x2CC18CD5, 0x40207D3D),
    ("ff02::1", 4739, "3ffe:501:8::260:97ff:fe40:efab", 14230, 0x0F0C461C, 0xDDE51BBF),
    ("fe80::200:f8ff:fe21:67cf", 38024, "3ffe:1900:4545:3:200:f8ff:fe21:67cf", 44251, 0x4B61E985, 0x02D1FEEF),
]


def packed(address: str) -> bytes:
    return ip_address(address).packed


def by_bits(key: bytes, data: bytes) -> int:
    """The definition, bit by bit, with nothing of the tables."""
    bits, size, found = int.from_bytes(key, "big"), 8 * len(key), 0
    for at in range(8 * len(data)):
        if data[at // 8] >> (7 - at % 8) & 1:
            found ^= bits >> (size - 32 - at) & 0xFFFFFFFF
    return found


@pytest.mark.parametrize(("dst", "dport", "src", "sport", "addresses", "with_ports"), SUITE)
def test_the_published_vectors(dst: str, dport: int, src: str, sport: int, addresses: int, with_ports: int) -> None:
    ends = packed(src), packed(dst)
    assert toeplitz.toeplitz(KEY, toeplitz.flow_input(*ends, sport, dport)) == with_ports
    assert toeplitz.toeplitz(KEY, toeplitz.flow_input(*ends)) == addresses, "without ports: addresses alone"
    assert toeplitz.toeplitz(KEY, toeplitz.flow_input(*ends, sport, dport, ("src-ip", "dst-ip"))) == addresses
    table = [entry % 7 for entry in range(128)]
    assert toeplitz.queue(KEY, table, *ends, sport, dport) == with_ports % 128 % 7
    assert toeplitz.queue(KEY, table, *ends, None, None) == addresses % 128 % 7


def test_the_tables_are_the_definition() -> None:
    rng = random.Random(5)
    for size in (40, 52, 44, 13):
        key = rng.randbytes(size)
        for length in (0, 1, 8, 9, 12, 32, 36):
            if length + 4 <= size:
                data = rng.randbytes(length)
                assert toeplitz.toeplitz(key, data) == by_bits(key, data)


def test_the_symmetric_key_is_symmetric_and_the_other_is_not() -> None:
    rng = random.Random(6)
    key, table = toeplitz.symmetric_key(40), list(range(128))
    assert key[:4].hex() == "6d5a6d5a" and len(toeplitz.symmetric_key(13)) == 13
    differ = 0
    for _ in range(50):
        width = rng.choice((4, 16))
        src, dst, sport, dport = rng.randbytes(width), rng.randbytes(width), rng.randrange(65536), rng.randrange(65536)
        assert toeplitz.queue(key, table, src, dst, sport, dport) == toeplitz.queue(key, table, dst, src, dport, sport)
        differ += toeplitz.queue(KEY, table, src, dst, sport, dport) != toeplitz.queue(KEY, table, dst, src, dport, sport)
    assert differ > 40


@pytest.mark.parametrize("transform", ["symmetric-xor", "symmetric-or-xor"])
def test_the_symmetric_functions(transform: str) -> None:
    """As include/uapi/linux/ethtool.h has them: (SRC ^ DST, SRC ^ DST) and (SRC | DST, SRC ^ DST), ports alike."""
    src, dst = packed("192.0.2.1"), packed("198.51.100.7")
    there = toeplitz.flow_input(src, dst, 1000, 53, transform=transform)
    assert there == toeplitz.flow_input(dst, src, 53, 1000, transform=transform)
    xor = bytes(a ^ b for a, b in zip(src, dst, strict=True))
    first = xor if transform == "symmetric-xor" else bytes(a | b for a, b in zip(src, dst, strict=True))
    assert there[:8] == first + xor and len(there) == 12
    with pytest.raises(ValueError, match="both ends"):
        toeplitz.flow_input(src, dst, 1000, 53, ("src-ip", "src-port"), transform)


def test_many_at_once_are_each_alone() -> None:
    import numpy as np

    rng = random.Random(7)
    table = [rng.randrange(6) for _ in range(64)]
    inputs = [rng.randbytes(12) for _ in range(300)]
    many = toeplitz.queues(KEY, table, np.frombuffer(b"".join(inputs), dtype=np.uint8).reshape(300, 12))
    assert many.tolist() == [table[toeplitz.toeplitz(KEY, data) % 64] for data in inputs]


def test_what_cannot_be_hashed_is_said() -> None:
    with pytest.raises(ValueError, match="at most 8, not 12"):
        toeplitz.toeplitz(KEY[:12], bytes(12))
    with pytest.raises(ValueError, match="no entries"):
        toeplitz.queue(KEY, [], bytes(4), bytes(4), 1, 2)
    with pytest.raises(ValueError, match="no such hash"):
        toeplitz.flow_input(bytes(4), bytes(4), fields=("vlan",))
    assert toeplitz.queue(KEY, [3, 4], bytes(4), bytes(4), 1, 2, fields=()) == 3, "nothing is hashed: 0"
