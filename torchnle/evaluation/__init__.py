"""Benchmark runs that produce the tables of the documentation."""
