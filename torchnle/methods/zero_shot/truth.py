"""The probability that a sentence's nouns are true, from the posterior over a vocabulary."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from torchnle.methods.aligned.probability.posterior import posterior
from torchnle.methods.aligned.probability.truth import probability_of
from torchnle.methods.aligned.translator import MapTranslator


def sentence_probability(
    translator: MapTranslator,
    layer: str,
    row: Float[Tensor, "D"],
    text: str,
    predicted: int,
    slope: float,
) -> tuple[float, bool]:
    """Estimate the probability that a sentence is true of a pooled feature, and whether it is unsure.

    The larger of two estimates: the sum over the phrases that make its nouns true; and the probability of the
    predicted class times the cosine of the sentence's direction with the class's.

    Args:
        translator: Whose vocabulary and threshold are used.
        layer: The layer that the head reads.
        row: What the head reads of the image.
        text: The sentence.
        predicted: The class that it justifies.
        slope: The cosine of their directions.

    Returns:
        The probability, and whether a description of that probability would be marked unsure.
    """
    candidates = translator.text_directions.candidates[layer]
    shares = posterior(translator.by_layer[layer], row[None], candidates, local=False)[0][0]
    named = probability_of(text, shares, translator.vocabulary) or 0.0
    found = max(named, slope * float(shares[candidates.classes[predicted]]))
    return found, found < translator.sure_above
