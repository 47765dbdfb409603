"""Probing: every image of a set through the model once, and what is kept of every unit's activations."""
