"""A calibrated posterior over a vocabulary, for a row of features."""
