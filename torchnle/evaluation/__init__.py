"""Whole-benchmark runs that make the tables."""
