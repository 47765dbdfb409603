"""Embeddings of texts and their directions in each layer's map, kept until the maps change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.methods.aligned.embeddings import embed_cached
from torchnle.methods.aligned.probability.candidates import Candidates, candidates
from torchnle.methods.aligned.probability.vocabulary import background_phrases

if TYPE_CHECKING:
    from torchnle.methods.aligned.translator import MapTranslator

#: The largest number of described texts whose directions are kept, per layer.
_MOST_DESCRIBED = 4096


class DirectionCache:
    """Computes the directions of texts in a translator's maps when they are needed, and keeps them.

    Args:
        translator: The translator, with its maps, sentence encoder and vocabulary.
    """

    def __init__(self, translator: MapTranslator) -> None:
        self._translator = translator
        self._latest: tuple[tuple[str, ...], Tensor, dict[str, Tensor]] | None = None
        self._described: dict[str, dict[str, Tensor]] = {}

    def scored(self, layer: str, texts: tuple[str, ...]) -> Float[Tensor, "T D"]:
        """Return the directions of texts to be scored; those of the latest texts are kept."""
        with torch.inference_mode(False), torch.no_grad():  # what is kept must serve calls with gradients
            if self._latest is None or self._latest[0] != texts:
                self._latest = texts, self._translator.encoder.encode(texts), {}
            _, vectors, directions = self._latest
            if layer not in directions:
                directions[layer] = self._translator.by_layer[layer].directions(vectors)
        return directions[layer]

    def described(self, layer: str, texts: Sequence[str]) -> Float[Tensor, "T D"]:
        """Return the directions of texts that rows were described by.

        Each text is embedded and mapped alone, so that the bits of its direction, and so of scores, do not
        depend on other texts: a run that is resumed, or shared by processes, writes the same lines.
        """
        known, fitted = self._described.setdefault(layer, {}), self._translator.by_layer[layer]
        if len(known) > _MOST_DESCRIBED:
            known.clear()
        for text in dict.fromkeys(texts):
            if text not in known:
                (known[text],) = fitted.directions(self.embed([text]))
        return torch.stack([known[text] for text in texts])

    def embed(self, texts: Sequence[str]) -> Float[Tensor, "T k"]:
        """Look up the embeddings of frequent texts, which are kept on disk; encode others."""
        new = [text for text in texts if text not in self._frequent]
        encoded = dict(zip(new, self._translator.encoder.encode(new), strict=True)) if new else {}
        return torch.stack([encoded[text] if text in encoded else self._frequent[text] for text in texts])

    @cached_property
    def _frequent(self) -> dict[str, Tensor]:
        """The sentence embedding of every phrase, of its hypernyms and of backgrounds."""
        vocabulary = self._translator.vocabulary
        texts = (*vocabulary.nouns, *background_phrases())
        embeddings = dict(zip(texts, embed_cached(self._translator.encoder, texts), strict=True))
        return embeddings | dict(zip(vocabulary.phrases, self._translator.vectors, strict=True))

    @cached_property
    def candidates(self) -> Mapping[str, Candidates]:
        """The vocabulary's phrases as candidates in each layer's map."""
        by_layer = self._translator.by_layer
        return {layer: candidates(self._translator, fitted) for layer, fitted in by_layer.items()}

    @cached_property
    def backgrounds(self) -> Mapping[str, Tensor]:
        """The directions of `background_phrases` in each layer's map."""
        vectors = self.embed(background_phrases())
        return {layer: each.directions(vectors) for layer, each in self._translator.by_layer.items()}
