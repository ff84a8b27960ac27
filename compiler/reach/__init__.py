"""Which rules of a list any packet at all gets to, and which rules take the packets of the others."""
