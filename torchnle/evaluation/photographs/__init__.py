"""Photographs whose content was written down: is what a translator says of them, and where, right?

Read `truth` for what is known of a photograph, `judge` for the rule by which a text is right, `run` for what
is measured, `adaptation` for the pictures that a translator is adapted to, `grids` for pictures that are put
together, `report` for the page.
"""

from torchnle.evaluation.photographs.judge import Judge, Verdict
from torchnle.evaluation.photographs.report import page
from torchnle.evaluation.photographs.run import measure, write_said
from torchnle.evaluation.photographs.said import Said, rates
from torchnle.evaluation.photographs.truth import Photograph, read_photographs

__all__ = [
    "Judge",
    "Photograph",
    "Said",
    "Verdict",
    "measure",
    "page",
    "rates",
    "read_photographs",
    "write_said",
]
