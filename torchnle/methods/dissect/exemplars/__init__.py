"""Exemplars: where a unit is active in its images, and images that are alike and do not excite it."""
