"""Find the order in which a layer keeps its locations, and which tokens are locations at all."""
