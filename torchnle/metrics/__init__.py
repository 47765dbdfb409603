"""Metrics: functions from predictions and truth to numbers, one definition each."""

from torchnle.metrics.captions import bleu4, caption_scores, cider, meteor, rouge_l
from torchnle.metrics.embedding_scores import TextImageScorer, bert_score, clip_score
from torchnle.metrics.explanations import ExplanationScores, explanation_scores, retrieve
from torchnle.metrics.java import java_scores
from torchnle.metrics.localization import (
    best_iou,
    box_masks,
    chance_level,
    energy_inside,
    mean_over_classes,
    pointing_hits,
)
from torchnle.metrics.naming import naming_rates, nearest_phrases, says_nouns
from torchnle.metrics.perturbation import Curves, deletion, insertion
from torchnle.metrics.surrogate import Surrogate, linear_surrogate
from torchnle.metrics.word_kinds import Vocabulary, vocabulary

__all__ = [
    "Curves",
    "ExplanationScores",
    "Surrogate",
    "TextImageScorer",
    "Vocabulary",
    "bert_score",
    "best_iou",
    "bleu4",
    "box_masks",
    "caption_scores",
    "chance_level",
    "cider",
    "clip_score",
    "deletion",
    "energy_inside",
    "explanation_scores",
    "insertion",
    "java_scores",
    "linear_surrogate",
    "mean_over_classes",
    "meteor",
    "naming_rates",
    "nearest_phrases",
    "pointing_hits",
    "retrieve",
    "rouge_l",
    "says_nouns",
    "vocabulary",
]
