"""Exemplars of units, and similar images that do not activate them (contrast images)."""
