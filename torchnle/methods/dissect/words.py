"""The calls of a translator by a dissection: descriptions, scores and probabilities of features."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.errors import TranslatorMismatchError
from torchnle.language.texts import check_texts
from torchnle.methods.aligned.embeddings import embed_cached
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.translators.base import Translator
from torchnle.translators.rows import Rows


@torch.no_grad()
def describe_rows(translator: Translator, layer: str, rows: Float[Tensor, "R D"]) -> list[tuple[str, float]]:
    """Describe each feature, with the description's probability; 1.0 if the translator estimates none.

    Args:
        translator: Any translator that reads the layer.
        layer: The layer's name.
        rows: Means of the layer's features over some locations.
    """
    found = translator.describe([Rows({layer: _scaled(translator, layer, rows)[:, None]})])
    return [(each.text, 1.0 if each.probability is None else each.probability) for each in found]


@torch.no_grad()
def phrase_probabilities(
    translator: MapTranslator, layer: str, rows: Float[Tensor, "R D"], texts: Sequence[str] | None = None
) -> Float[Tensor, "R P"]:
    """Estimate the probability of every text on each feature; None = the phrases of the vocabulary."""
    return translator.probabilities([Rows({layer: _scaled(translator, layer, rows)[:, None]})], texts)


@torch.no_grad()
def score_rows(
    translator: Translator, layer: str, rows: Float[Tensor, "R D"], texts: Sequence[str]
) -> Float[Tensor, "R T"]:
    """Compute the raw scores of texts on features."""
    return translator.score([Rows({layer: rows[:, None]})], list(texts)).float()


def score_weights(translator: MapTranslator, layer: str, texts: Sequence[str]) -> Float[Tensor, "T D"]:
    """Compute the weights of a map's scores, which are linear in the features."""
    name = map_name(translator, layer)
    fitted = translator.by_layer[name]
    column = {phrase: i for i, phrase in enumerate(translator.vocabulary.phrases)}
    new = [text for text in dict.fromkeys(check_texts(texts)) if text not in column]
    parts = [translator.text_directions.candidates[name].directions]
    if new:
        column |= {text: len(column) + i for i, text in enumerate(new)}
        parts.append(fitted.directions(embed_cached(translator.encoder, new)))
    directions, matrix = torch.cat(parts)[[column[text] for text in texts]], fitted.matrix
    return (directions if matrix is None else directions @ matrix.T).cpu()


def map_name(translator: MapTranslator, layer: str) -> str:
    """Find the map of a layer whose name may have a further prefix, since the model is inside another one.

    Raises:
        TranslatorMismatchError: If no map has the name, or an ending of it.
    """
    fitting = [name for name in translator.layers if layer == name or layer.endswith(f".{name}")]
    if not fitting:
        raise TranslatorMismatchError(
            f"translator '{translator.name}' maps {list(translator.layers)}; '{layer}' is none of these."
        )
    return max(fitting, key=len)


def _scaled(translator: Translator, layer: str, rows: Float[Tensor, "R D"]) -> Float[Tensor, "R D"]:
    """Bring means over a few locations to the norm of pooled features, which maps are calibrated for."""
    if not isinstance(translator, MapTranslator):
        return rows
    fitted = translator.map_for(layer, rows.shape[1])
    return fitted.scaled(rows.to(fitted.center))


class TextScores:
    """Scores a fixed list of texts on features of one layer.

    Args:
        translator: Reads the layer.
        layer: The layer's name.
        texts: At least one text.

    Example:
        >>> TextScores(translator, "layer", ["a cat", "sky"])(torch.ones(3, 6)).shape
        torch.Size([3, 2])
    """

    def __init__(self, translator: Translator, layer: str, texts: Sequence[str]) -> None:
        self.translator, self.layer, self.texts = translator, layer, tuple(check_texts(texts))

    def __call__(self, rows: Float[Tensor, "R D"]) -> Float[Tensor, "R T"]:
        """Score every text on every feature."""
        return score_rows(self.translator, self.layer, rows, self.texts)

    @cached_property
    def fingerprint(self) -> str:
        """The identity of the translator, the layer and the texts."""
        return f"{self.translator.fingerprint} {self.layer} {self.texts}"
