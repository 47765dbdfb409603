"""Fit what has to be fitted by gradients: loops, data feeding, checkpoints."""
