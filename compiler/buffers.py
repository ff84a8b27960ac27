"""Socket buffers for a path: bandwidth × delay, and what Linux needs on top of it.

A TCP sender keeps bandwidth × delay bytes in flight; the receiver has to offer that window, the sender to keep that much for retransmission.
- net.core.rmem_max and wmem_max bound what a program asks for with SO_RCVBUF and SO_SNDBUF; the kernel gives twice that (socket(7)): the
  product itself.
- net.ipv4.tcp_rmem and tcp_wmem bound what TCP takes by itself. Half of it is window and half overhead: tcp_adv_win_scale 1 (tcp(7)); since
  Linux 6.6 measured for each socket, with half as its first guess (TCP_DEFAULT_SCALING_RATIO, include/net/tcp.h); a send buffer is charged
  for its overhead too (tcp_sndbuf_expand takes twice the congestion window): twice the product.
Nothing is made smaller than it is: the runtime takes these as the least (runtime.knobs.host.AtLeast).
"""

from __future__ import annotations

from compiler.findings import LiteralError

MAX_WINDOW = 65535 << 14  # bytes: the largest window that TCP can say (RFC 7323)
_FIRST = {"net.ipv4.tcp_rmem": (4096, 131072), "net.ipv4.tcp_wmem": (4096, 16384)}  # the kernel's own least and first (tcp(7))
_LEAST = 2304  # bytes: SOCK_MIN_RCVBUF is about this; what is smaller needs no buffers


def product(rate: int, delay: int) -> int:
    """Bytes in flight at `rate` bit/s over `delay` ns, rounded up. Raises LiteralError (N031) for what no TCP window holds."""
    found = -(-rate * delay // (8 * 10**9))
    if found > MAX_WINDOW:
        raise LiteralError(
            "N031", f"that is {found:,} bytes in flight, and a TCP window is at most {MAX_WINDOW:,}", "RFC 7323 allows 1 GiB: a shorter delay or a lower rate"
        )
    return max(found, _LEAST)


def sizes(inflight: int) -> dict[str, int | tuple[int, ...]]:
    """sysctl → its least value, for `inflight` bytes."""
    both = {key: (*first, max(2 * inflight, first[-1])) for key, first in _FIRST.items()}
    return {"net.core.rmem_max": inflight, "net.core.wmem_max": inflight, **both}


def reason(key: str, value: object) -> str:
    """How a size came about, for plans."""
    if isinstance(value, tuple):
        half = "half of it is window (tcp_adv_win_scale 1; since Linux 6.6 measured)" if key.endswith("rmem") else "the kernel counts its overhead in"
        return f"up to twice bandwidth × delay = {value[-1]:,} bytes: {half}; more stays more"
    return f"bandwidth × delay = {value:,} bytes: the kernel gives a socket twice what it asks for (socket(7)); more stays more"
