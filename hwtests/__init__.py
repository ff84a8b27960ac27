"""Tests of netc on NICs: the embedded lab, the virtual rack, a rack of machines. hwtests/README.md says how to run them on your own."""
