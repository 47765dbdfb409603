"""Variants of a text's score at a place: by length, and against other texts."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.language.texts import check_texts
from torchnle.translators.base import Translator
from torchnle.vision.features import Features

Normalize: TypeAlias = Literal["length"] | None

#: What scores are divided by before a softmax over texts: log-probabilities are on its scale, others not.
#: Cosines point alike from 0.1 to 0.5 on composed scenes, and worse when sharpened more.
TEMPERATURES = {"log_prob": 1.0, "cosine": 0.2, "projection": 0.1}


def refined_scores(
    translator: Translator,
    features: Features | Sequence[Features],
    texts: Sequence[str],
    *,
    joint: bool = False,
    prior: bool = False,
    normalize: Normalize = None,
    contrast: Sequence[str] | None = None,
    internal_batch_size: int | None = None,
) -> Float[Tensor, "rows texts"]:
    """Score texts on rows, less their prior, over their length, and then against other texts, as asked.

    Args:
        translator: Scores texts on features.
        features: The features of one layer or of several.
        texts: The texts.
        joint: Read the layers of a location together.
        prior: Subtract each text's log-probability under the language model alone.
        normalize: "length" = divide by the number of the text's tokens: the mean of a token.
        contrast: Other texts: at every place, the logarithm of the softmax over the text and these.
        internal_batch_size: The most rows in work at once.

    Raises:
        TypeError: If `contrast` is a single string.
        ValueError: If there is nothing to contrast with, `normalize` is not known or not offered for cosines,
            or as `Translator.score`.

    Example:
        >>> features = Features(torch.randn(1, 4, 6), "layer", (2, 2))
        >>> scores = refined_scores(translator, features, ["a cat"], contrast=["a dog", "grass"])
        >>> bool((scores < 0).all())
        True
    """
    if normalize not in ("length", None):
        raise ValueError(f"normalize={normalize!r}; pass 'length' or None.")
    others = [] if contrast is None else check_texts(contrast)
    every = list(dict.fromkeys([*others, *texts]))
    scores = translator.score(
        features, every, joint=joint, prior=prior, internal_batch_size=internal_batch_size
    )
    if normalize == "length":
        scores = scores / translator.text_lengths(every).to(scores)
    column = {text: index for index, text in enumerate(every)}
    chosen, rivals = ([column[text] for text in listed] for listed in (texts, others))
    if contrast is None:
        return scores[:, chosen]
    return against(scores / TEMPERATURES[translator.score_kind], chosen, rivals)


def against(
    scores: Float[Tensor, "rows every"], chosen: Sequence[int], rivals: Sequence[int]
) -> Float[Tensor, "rows chosen"]:
    """The logarithm of the softmax of each chosen column over itself and the rivals.

    Example:
        >>> against(torch.zeros(1, 3), [0, 1], [1, 2]).exp()
        tensor([[0.3333, 0.5000]])
    """
    own = scores[:, list(chosen)]
    total = scores[:, list(dict.fromkeys(rivals))].logsumexp(dim=1, keepdim=True)
    counted = torch.tensor([column in set(rivals) for column in chosen], device=scores.device)
    return own - torch.where(counted, total, torch.logaddexp(total, own))
