"""Find a classifier's linear head and the features that it reads, checked against the logits of the model."""
