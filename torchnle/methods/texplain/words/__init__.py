"""Dominant words: sample sentences from features, count their words, and compare groups."""
