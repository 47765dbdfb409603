"""Scores of texts at every location, and their variants: normalised by length, or against other texts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.attr.inputs.texts import as_targets
from torchnle.attr.layer_reader import Chosen, LayerReader
from torchnle.language.texts import check_texts
from torchnle.translators.base import Translator
from torchnle.translators.rows import Rows, check_whole, rows_of
from torchnle.vision.features import Features

Normalize: TypeAlias = Literal["length"] | None


@dataclass(frozen=True)
class Refinement:
    """The settings of a score's variants: minus its prior, normalised by length, against other texts.

    Args:
        prior: Subtract each text's log-probability under the language model alone.
        normalize: "length" = divide by the number of the text's tokens: the mean of a token.
        contrast: Other texts: at every location, the logarithm of the softmax over the text and these.

    Raises:
        TypeError: If `contrast` is a single string.
        ValueError: If `contrast` is empty, or `normalize` is not known.
    """

    prior: bool = False
    normalize: Normalize = None
    contrast: Sequence[str] | None = None

    def __post_init__(self) -> None:
        if self.normalize not in ("length", None):
            raise ValueError(f"normalize={self.normalize!r}; pass 'length' or None.")
        if self.contrast is not None:
            object.__setattr__(self, "contrast", tuple(check_texts(self.contrast)))


def score_variants(
    translator: Translator,
    rows: Sequence[Rows],
    texts: Sequence[str],
    how: Refinement,
    *,
    internal_batch_size: int | None = None,
) -> Float[Tensor, "rows texts"]:
    """Score texts on rows by one variant: minus their prior, normalised by length, or against other texts.

    Args:
        translator: Scores texts on rows.
        rows: The rows.
        texts: The texts.
        how: The variant.
        internal_batch_size: The largest number of rows in work at once.

    Raises:
        ValueError: If the translator's scores have no such variant, or as `Translator.score`.

    Example:
        >>> rows = [Rows({"layer": torch.randn(4, 1, 6)}, pooled=False)]
        >>> how = Refinement(contrast=["a dog", "grass"])
        >>> bool((score_variants(translator, rows, ["a cat"], how) < 0).all())
        True
    """
    others = list(how.contrast or ())
    every = list(dict.fromkeys([*others, *texts]))
    scores = translator.score(rows, every, prior=how.prior, internal_batch_size=internal_batch_size)
    if how.normalize == "length":
        scores = scores / translator.text_lengths(every).to(scores)
    column = {text: index for index, text in enumerate(every)}
    chosen, rivals = ([column[text] for text in listed] for listed in (texts, others))
    if how.contrast is None:
        return scores[:, chosen]
    return against(scores / translator.softmax_temperature(rows), chosen, rivals)


def against(
    scores: Float[Tensor, "rows every"], chosen: Sequence[int], rivals: Sequence[int]
) -> Float[Tensor, "rows chosen"]:
    """Compute the log-softmax of each chosen column over itself and the columns it is contrasted with.

    Args:
        scores: One column per text.
        chosen: The columns to return.
        rivals: The columns in every softmax.

    Example:
        >>> against(torch.zeros(1, 3), [0, 1], [1, 2]).exp()
        tensor([[0.3333, 0.5000]])
    """
    own = scores[:, list(chosen)]
    total = scores[:, list(dict.fromkeys(rivals))].logsumexp(dim=1, keepdim=True)
    counted = torch.tensor([column in set(rivals) for column in chosen], device=scores.device)
    return own - torch.where(counted, total, torch.logaddexp(total, own))


class ScoreMaps(LayerReader[Chosen]):
    """Scores texts at every location of each layer, on the layer's own grid."""

    def _target_maps(
        self,
        features: Sequence[Features],
        target: str | Sequence[str] | None,
        prior: bool,
        internal_batch_size: int | None,
    ) -> list[Float[Tensor, "N 1 h w"]]:
        """Score each image's own target at every location of each layer."""
        how = Refinement(prior=prior)
        return [self._target_map(each, target, how, internal_batch_size) for each in features]

    def _target_map(
        self,
        features: Features,
        target: str | Sequence[str] | None,
        how: Refinement,
        internal_batch_size: int | None,
    ) -> Float[Tensor, "N 1 h w"]:
        if target is None:
            _, whole = self._select([features], None, False)
            words = self.translator.describe(whole, internal_batch_size=internal_batch_size)
            target = [word.text for word in words]
        targets = as_targets(target, features.batch_size)
        check_whole("all", self.translator.tokens_per_row)
        local = self.reading.pool(features, "all")
        maps: dict[int, Tensor] = {}
        for text in dict.fromkeys(targets):
            images = [i for i, other in enumerate(targets) if other == text]
            some = local.images(images)
            scores = self._score_map(some, rows_of(some), [text], how, internal_batch_size)
            maps.update(zip(images, scores, strict=True))
        return torch.stack([maps[i] for i in range(len(targets))])

    def _score_maps(
        self,
        features: list[Features],
        texts: list[str],
        joint: bool,
        how: Refinement,
        internal_batch_size: int | None,
    ) -> list[Float[Tensor, "N T h w"]]:
        """Score texts at every location of each layer, or of all together."""
        chosen, rows = self._select(features, "all", joint)
        return [
            self._score_map(each, [group], texts, how, internal_batch_size)
            for each, group in zip(chosen, rows, strict=False)
        ]

    def _score_map(
        self,
        features: Features,
        rows: list[Rows],
        texts: list[str],
        how: Refinement,
        internal_batch_size: int | None,
    ) -> Float[Tensor, "N T h w"]:
        scores = score_variants(self.translator, rows, texts, how, internal_batch_size=internal_batch_size)
        return features.fold(scores).permute(0, 3, 1, 2)
