"""Concepts switched off by name: a classifier's logits with and without directions of its features."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from typing_extensions import Self

from torchnle.attr import LanguageAttribution
from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.methods.aligned.translator import MapTranslator
from torchnle.methods.zero_shot.banks import as_bank, without_names
from torchnle.methods.zero_shot.classes import class_map
from torchnle.methods.zero_shot.concepts import BankDirections, concepts
from torchnle.vision.features import Features

#: So many classes are compared, and so many concepts suggested.
_CLASSES, _SUGGESTED = 6, 6


class HeadConcepts:
    """Removes concepts from what a classifier's head reads, and compares its logits.

    A concept is the direction of its name among the whitened features. Switching concepts off takes the part
    of the feature that lies along their directions out; the head's own weights are applied to the rest.

    Args:
        translator: Fitted to the head.
        layer: The layer that the head reads.
        lang: Reads that layer as the head does.
    """

    def __init__(self, translator: MapTranslator, layer: str, lang: LanguageAttribution[Any]) -> None:
        self.translator, self.layer, self.lang = translator, layer, lang
        self._bank: BankDirections | None = None

    @classmethod
    def find(cls, lang: LanguageAttribution[Any]) -> Self | None:
        """Find the head that an attribution reads; None where it reads none."""
        try:
            translator, layer = class_map(lang.translator, [tap.name for tap in lang.taps])
        except (TypeError, ValueError):
            return None
        return cls(translator, layer, lang)

    @property
    def fitted(self) -> TextMap:
        """The map of the head's layer."""
        return self.translator.by_layer[self.layer]

    def answer(self, features: Features, off: Sequence[str]) -> dict[str, Any]:
        """Compare the classes of a photograph with and without concepts.

        Args:
            features: Of the head's layer, one image.
            off: The names of the concepts.

        Returns:
            "classes": name, logit and probability before and after, of the likeliest before and after;
            "concepts": what the evidence of the prediction shows, as suggestions.
        """
        rows = self.lang.reading.pool(features, None).rows
        white = self.fitted.whiten(rows)
        before = self.fitted.head_logits(white)[0]
        after = self.fitted.head_logits(without(white, self._directions(off)))[0] if off else before
        shown = _union(before, after)
        shares = [each.softmax(dim=0) for each in (before, after)]
        listed = [
            {
                "name": self.translator.class_names[index],
                "before": round(float(before[index]), 3),
                "after": round(float(after[index]), 3),
                "probability": round(float(shares[0][index]), 5),
                "probability_after": round(float(shares[1][index]), 5),
            }
            for index in shown
        ]
        return {"classes": listed, "concepts": self._suggest(rows, before)}

    def _directions(self, texts: Sequence[str]) -> Float[Tensor, "T D"]:
        return self.translator.directions(self.layer, texts)

    def _suggest(self, rows: Float[Tensor, "1 D"], logits: Float[Tensor, "C"]) -> list[str]:
        if self._bank is None:
            self._bank = self._without_classes(BankDirections.of(self.translator, self.fitted, as_bank(None)))
        (found,) = concepts(
            self.fitted,
            self._bank,
            self.translator.class_names,
            rows,
            logits.argmax().view(1),
            [(0, None)],
            count=_SUGGESTED,
        )
        return list(found.texts)

    def _without_classes(self, bank: BankDirections) -> BankDirections:
        """Leave out the names of classes, after the whole bank was encoded, since that is cached."""
        others = set(without_names(bank.texts, self.translator.class_names))
        kept = [index for index, text in enumerate(bank.texts) if text in others]
        return BankDirections(tuple(bank.texts[i] for i in kept), bank.directions[kept], bank.weights[kept])


def without(white: Float[Tensor, "R D"], directions: Float[Tensor, "T D"]) -> Float[Tensor, "R D"]:
    """Take the part of whitened features out that lies in the span of directions.

    Example:
        >>> without(torch.tensor([[3.0, 4.0]]), torch.tensor([[0.0, 1.0]])).tolist()
        [[3.0, 0.0]]
    """
    left, values, _ = torch.linalg.svd(directions.T, full_matrices=False)
    basis = left[:, values > 1e-4 * values.max()]
    left_over: Tensor = white - white @ basis @ basis.T
    return left_over


def _union(before: Float[Tensor, "C"], after: Float[Tensor, "C"]) -> list[int]:
    count = min(_CLASSES, len(before))
    first, second = (each.topk(count).indices.tolist() for each in (before, after))
    return list(dict.fromkeys([*first, *second[:3]]))
