"""Any translator on composed scenes: are its words right, and in the right place?

``torchnle evaluate scenes`` measures local naming, pointing and whole-image captions, layer by layer, beside
a ridge probe that shows what the features can give.
"""

from torchnle.evaluation.scenes.data import composed
from torchnle.evaluation.scenes.report import page
from torchnle.evaluation.scenes.run import measure

__all__ = ["composed", "measure", "page"]
