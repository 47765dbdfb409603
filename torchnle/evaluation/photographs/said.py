"""What was said of a photograph, and how often that is right and marked rightly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torchnle.description import Description
from torchnle.evaluation.photographs.judge import Verdict


@dataclass(frozen=True)
class Said:
    """A text about a photograph.

    Args:
        text: The words.
        score: The higher the surer: the description's probability where it has one, else its raw score.
        unsure: Whether it was marked as not to be relied on.
        description: All that the description held.
    """

    text: str
    score: float
    unsure: bool
    description: dict[str, Any]

    @classmethod
    def of(cls, description: Description) -> Said:
        """Take what counts from a description."""
        score = description.score if description.probability is None else description.probability
        return cls(description.text, score, description.unsure, description.to_dict())

    def to_dict(self) -> dict[str, Any]:
        """The form that is written down."""
        return {
            "text": self.text,
            "score": self.score,
            "unsure": self.unsure,
            "description": self.description,
        }


def rates(said: Sequence[Said], verdicts: Sequence[Verdict]) -> dict[str, float]:
    """Count what is right, what is wrong and not marked, and how well the score tells them apart.

    Args:
        said: The texts.
        verdicts: On each of them.

    Returns:
        "count"; the mean shares "right" and "useful" (right and not too general); "wrong", texts of which at
        most half is right, and of these "wrong_not_unsure"; "right_unsure", right texts that were marked;
        "auroc", the probability that a right text has a higher score than a wrong one (NaN without both).

    Example:
        >>> sure, unsure = Said("a cat", 0.9, False, {}), Said("a dog", 0.2, True, {})
        >>> found = rates([sure, unsure, sure], [Verdict(1, 1), Verdict(1, 1), Verdict(0, 0)])
        >>> found["wrong_not_unsure"], found["right_unsure"], found["auroc"]
        (1, 1, 0.25)
    """
    rows = list(zip(said, verdicts, strict=True))
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
    pairs = [(a > b) + 0.5 * (a == b) for a in good for b in wrong]
    return sum(pairs) / len(pairs)
