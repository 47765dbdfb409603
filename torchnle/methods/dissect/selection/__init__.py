"""Selection: which candidate a unit responds to most."""
