"""The map from text into features: sums over captions, whitening, statistics of a domain of pictures."""
