"""Photographs with recorded content: the accuracy of a translator's descriptions and maps on them.

`truth` reads the recorded content, `judge` decides whether a text is right, `answers` computes rates, `run`
measures, `adaptation` adapts a translator to unlabelled pictures, `grids` composes pictures, and `report`
writes the page.
"""

from torchnle.evaluation.photographs.answers import Answer, rates
from torchnle.evaluation.photographs.judge import Judge, Verdict
from torchnle.evaluation.photographs.report import page
from torchnle.evaluation.photographs.run import measure, write_answers
from torchnle.evaluation.photographs.truth import Photograph, read_photographs

__all__ = [
    "Answer",
    "Judge",
    "Photograph",
    "Verdict",
    "measure",
    "page",
    "rates",
    "read_photographs",
    "write_answers",
]
