"""Training by gradients: loops, data feeding, checkpoints."""
