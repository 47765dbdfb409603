"""Whole folders, lists, globs and tar shards: described, mapped, counted or explained, a line per picture."""

from torchnle.attr.dataset.describe import describe_dataset
from torchnle.attr.dataset.explain import explain_dataset
from torchnle.attr.dataset.lines import Lines
from torchnle.attr.dataset.saliency import saliency_dataset
from torchnle.attr.dataset.tables import to_frame, write_table
from torchnle.attr.dataset.words import words_dataset

__all__ = [
    "Lines",
    "describe_dataset",
    "explain_dataset",
    "saliency_dataset",
    "to_frame",
    "words_dataset",
    "write_table",
]
