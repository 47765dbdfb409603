"""Regressions from sentence embeddings to directions of the features."""
