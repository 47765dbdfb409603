"""Find the order in which a layer keeps its locations, and which of its tokens are locations."""
