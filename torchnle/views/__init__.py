"""Figures of descriptions and saliency maps."""
