"""The map from text into features: sums over captions, whitening, and feature statistics."""
