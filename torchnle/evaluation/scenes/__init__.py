"""Composed scenes: the accuracy of any translator's descriptions and maps.

``torchnle evaluate scenes`` measures local naming, pointing and whole-image captions, layer by layer, and a
ridge probe on the same features for comparison.
"""

from torchnle.evaluation.scenes.data import composed
from torchnle.evaluation.scenes.report import page
from torchnle.evaluation.scenes.run import measure

__all__ = ["composed", "measure", "page"]
