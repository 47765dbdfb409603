"""Dominant words: sentences sampled from features, counted, and compared."""
