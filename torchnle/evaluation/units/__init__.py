"""Uses of unit labels: pruning by label, and units as classifiers of unseen classes."""
