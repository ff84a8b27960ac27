"""`netc bench`: what judging a packet costs, in the kernel, on this machine; results are checked before anything is timed."""
