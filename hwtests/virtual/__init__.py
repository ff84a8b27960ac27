"""The virtual rack's machine: QEMU boots Debian's stock kernel with real drivers on emulated NICs, and a Python process is each NIC's wire.

Standard library only, so that `python3 -m hwtests.virtual fetch` works before anything of netc is installed.
"""
