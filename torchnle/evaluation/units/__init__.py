"""What unit labels are good for: pruning by label, and units for classes that a model was not trained on."""
