"""Descriptions of photographs, and the rates at which they are right and marked unsure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch

from torchnle.description import Description
from torchnle.evaluation.photographs.judge import Verdict
from torchnle.metrics.ranking import auroc


@dataclass(frozen=True)
class Answer:
    """A description of a photograph with its score.

    Args:
        text: The text.
        score: The description's probability if it has one, else its raw score.
        unsure: Whether the description was marked unsure.
        description: All fields of the description.
    """

    text: str
    score: float
    unsure: bool
    description: dict[str, Any]

    @classmethod
    def of(cls, description: Description) -> Answer:
        """Build an answer from a description."""
        score = description.score if description.probability is None else description.probability
        return cls(description.text, score, description.unsure, description.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """Return the form that is written to JSON."""
        return {
            "text": self.text,
            "score": self.score,
            "unsure": self.unsure,
            "description": self.description,
        }


def rates(answers: Sequence[Answer], verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Compute the rates of right, useful and unmarked wrong descriptions, and the AUROC of their score.

    Args:
        answers: The texts.
        verdicts: The verdict on each of them.

    Returns:
        "count"; the mean shares "right" and "useful" (right and not too general); "wrong", texts of which at
        most half is right, and of these "wrong_not_unsure"; "right_unsure", right texts that were marked;
        "auroc", the probability that a right text has a higher score than a wrong one (NaN without both).

    Example:
        >>> sure, unsure = Answer("a cat", 0.9, False, {}), Answer("a dog", 0.2, True, {})
        >>> found = rates([sure, unsure, sure], [Verdict(1, 1), Verdict(1, 1), Verdict(0, 0)])
        >>> found["wrong_not_unsure"], found["right_unsure"], found["auroc"]
        (1, 1, 0.25)
    """
    rows = list(zip(answers, verdicts, strict=True))
    good = [text for text, verdict in rows if verdict.is_right]
    wrong = [text for text, verdict in rows if not verdict.is_right]
    count = max(1, len(rows))
    return {
        "count": len(rows),
        "right": sum(verdict.right for verdict in verdicts) / count,
        "useful": sum(verdict.useful for verdict in verdicts) / count,
        "wrong": len(wrong),
        "wrong_not_unsure": sum(not text.unsure for text in wrong),
        "right_unsure": sum(text.unsure for text in good),
        "auroc": _auroc([text.score for text in good], [text.score for text in wrong]),
    }


def _auroc(good: Sequence[float], wrong: Sequence[float]) -> float:
    if not good or not wrong:
        return float("nan")
    scores = torch.tensor([*good, *wrong], dtype=torch.float64)
    return float(auroc(scores[:, None], torch.arange(len(scores)) < len(good)))
