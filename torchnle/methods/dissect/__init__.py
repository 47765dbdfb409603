"""Describe-and-Dissect: labels for the units of a layer, from a probing set of images."""
