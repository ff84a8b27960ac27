"""A rack as the tests see it: machines reached through one agent each, wires, what has to be undone, and what must not have changed."""
