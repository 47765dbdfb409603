"""Train a DeViL translator by a recipe."""
