"""Calls in compiled programs that the loader puts the kernel's own numbers into: what both halves have to agree on."""

from __future__ import annotations

BUFF_FLAGS = 0x7E7C0001  # called as a helper in code: the loader puts xdp_buff.flags there (runtime/backends/kernel_calls.py)
BUFF_FLAGS_AT = 0x7E7C  # the offset that stands in the load of its result
