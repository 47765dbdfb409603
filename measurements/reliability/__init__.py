"""Measure the promises about faults, kills and damaged files, and the cost of the checks."""
