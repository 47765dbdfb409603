"""Measures of unit labels: how well a label's presence predicts a unit, and what units are like."""

from torchnle.metrics.units.agreement import (
    auprc,
    correlation,
    cosine,
    cosy_auc,
    cosy_mad,
    f1_iou,
)
from torchnle.metrics.units.labels import image_label_similarity, label_agreement
from torchnle.metrics.units.sanity import SanityCheck, sanity_checks
from torchnle.metrics.units.structure import clarity, polysemanticity, redundancy

__all__ = [
    "SanityCheck",
    "auprc",
    "clarity",
    "correlation",
    "cosine",
    "cosy_auc",
    "cosy_mad",
    "f1_iou",
    "image_label_similarity",
    "label_agreement",
    "polysemanticity",
    "redundancy",
    "sanity_checks",
]
