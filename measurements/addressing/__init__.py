"""How must a language model be addressed so that a prefix is understood?

``python -m measurements addressing`` says texts through their own word embeddings, with no training at
all, and trains a fresh prefix for a few steps from two starts.
"""

from measurements.addressing.run import measure, page, split
from measurements.addressing.starts import START_RECIPE, loss_from_start
from measurements.addressing.words import Address, understood, without_bos, word_prefixes

__all__ = [
    "START_RECIPE",
    "Address",
    "loss_from_start",
    "measure",
    "page",
    "split",
    "understood",
    "without_bos",
    "word_prefixes",
]
