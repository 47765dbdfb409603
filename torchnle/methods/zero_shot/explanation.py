"""Explanation: a prediction with the sentence that justifies it."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from html import escape
from typing import Any


@dataclass(frozen=True)
class Explanation:
    """A sentence that justifies a classifier's prediction, with scores of its faithfulness.

    Args:
        prediction: The class that is explained.
        text: The description of the evidence.
        score: The cosine of the text's direction and the evidence.
        fluency: The mean log-probability of a token of the text, in nats.
        percentile: The share of reference sentences that fit the evidence less, in percent.
        slope: The derivative of the class's logit along the text's direction, relative to that along the
            class's own weight row.
        slope_of_others: The mean of the same over the reference sentences.
        concepts: The phrases that fit the evidence best, with their cosines.
        location: The (row, column) that contributes most to the decision; None where there are no locations.
        rather_than: The class that the prediction is contrasted with, or "".
        is_wrong: Whether `rather_than` is known to be the true class.
        image: The index of the image in the batch.
        probability: The probability that the text's nouns are true of the picture; see `Description`.
        unsure: True if `probability` is too low to rely on the text.
        agreement: The cosine of the sentence embeddings of this text and of that of a second run, from
            another seed or prompt; None where none was made.
        colours: The most probable colours of what was looked at, with their probabilities; empty unless they
            were asked for.
        resembles: What the deciding locations show beside the class: phrases that fit their feature, without
            its component along the class's direction, better than chance; with cosines, best first. The
            picture need not show them.

    Example:
        >>> why = Explanation("king penguin", "a black and white bird", score=0.37, percentile=98.2)
        >>> print(why)
        prediction: king penguin because it shows a black and white bird
        >>> print(Explanation("ox", "a brown cow", 0.3, rather_than="moose", location=(3, 4)))
        prediction: ox rather than moose because it shows a brown cow
        >>> print(Explanation("dining table", "the furniture", resembles=(("a chair", 0.27),)))
        prediction: dining table because it shows the furniture, and resembles a chair
    """

    prediction: str
    text: str
    score: float = 0.0
    fluency: float = 0.0
    percentile: float = 0.0
    slope: float = 0.0
    slope_of_others: float = 0.0
    concepts: tuple[tuple[str, float], ...] = ()
    location: tuple[int, int] | None = None
    rather_than: str = ""
    is_wrong: bool = False
    image: int = 0
    probability: float | None = None
    unsure: bool = False
    agreement: float | None = None
    colours: tuple[tuple[str, float], ...] = ()
    resembles: tuple[tuple[str, float], ...] = ()

    @property
    def sentence(self) -> str:
        """The whole sentence; for a wrong prediction with the location that contributes most.

        Example:
            >>> Explanation("ox", "a cow", rather_than="moose", is_wrong=True, location=(3, 4)).sentence
            'prediction: ox rather than moose because it shows a cow; it is moose: look at location (3, 4)'
        """
        against = f" rather than {self.rather_than}" if self.rather_than else ""
        text = f"prediction: {self.prediction}{against} because it shows {self.text}"
        if self.resembles:
            text += f", and resembles {self.resembles[0][0]}"
        if self.is_wrong:
            text += f"; it is {self.rather_than}"
            text += f": look at location {self.location}" if self.location is not None else ""
        return text

    def to_dict(self) -> dict[str, Any]:
        """Return all fields as plain values that `json.dumps` takes."""
        return asdict(self)

    def __str__(self) -> str:
        return f"{self.sentence} (unsure)" if self.unsure else self.sentence

    def _repr_html_(self) -> str:
        listed = ", ".join(escape(phrase) for phrase, _ in self.concepts)
        numbers = f"fits better than {self.percentile:.0f} % of other sentences, cosine {self.score:.2f}"
        return f"<p><b>{escape(str(self))}</b><br><small>{listed}<br>{numbers}</small></p>"
