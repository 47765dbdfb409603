"""Measure the prompts, BOS and end tokens with which a language model understands a prefix.

``python -m measurements addressing`` decodes texts from their own token embeddings without training, and
trains a new prefix for a few steps from two starts.
"""

from measurements.addressing.run import measure, page, split
from measurements.addressing.starts import START_RECIPE, loss_from_start
from measurements.addressing.words import Frame, understood, without_bos, word_prefixes

__all__ = [
    "START_RECIPE",
    "Frame",
    "loss_from_start",
    "measure",
    "page",
    "split",
    "understood",
    "without_bos",
    "word_prefixes",
]
