"""Candidate labels: captions of exemplars, and their summaries."""
