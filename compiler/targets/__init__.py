"""Lowering: each module turns its part of a `place.Placed` into parts of a bundle."""
