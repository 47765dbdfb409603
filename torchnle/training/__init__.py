"""Training by gradients: loops, data loading, checkpoints."""
