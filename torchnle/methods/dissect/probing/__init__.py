"""Probing: run every image of a set through the model once, and record statistics of every unit."""
