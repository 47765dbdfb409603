"""Figures of descriptions and saliency maps, and HTML pages."""

from torchnle.views.class_map import plot_class_map, tsne

__all__ = ["plot_class_map", "tsne"]
