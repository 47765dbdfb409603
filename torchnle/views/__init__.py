"""Figures of descriptions and saliency maps, and HTML pages."""
