"""Measurements of Zero-shot NLE, each a command: ``python -m measurements.zero_shot.NAME``."""
