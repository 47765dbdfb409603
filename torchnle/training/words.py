"""Words before sentences: each prefix vector first learns the embedding of the caption's token at its place.

Without the language model a step costs hundreds of times less, and a prefix that already looks like the words
is understood from the first sentence on. The paper does not do this.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.language.model import LanguageModel


def word_errors(
    lm: LanguageModel, prefixes: Float[Tensor, "B P E"], tokens: Sequence[Sequence[int]], scale: float
) -> Float[Tensor, "B"]:
    """The mean squared error of each row's prefix to its tokens' embeddings, in units of their variance.

    Args:
        lm: Whose embeddings.
        prefixes: One a row, without its opening.
        tokens: One text's tokens a row; the first P count, a shorter text's last token is repeated.
        scale: The standard deviation of the language model's embeddings (`embedding_scale`).
    """
    length = prefixes.shape[1]
    cut = [list(ids[:length]) for ids in tokens]
    ids = torch.tensor([row + row[-1:] * (length - len(row)) for row in cut], device=lm.device)
    errors: Tensor = ((prefixes.float() - lm.embed(ids).float()) / scale).square().mean(dim=(1, 2))
    return errors


def embedding_scale(lm: LanguageModel) -> float:
    """The standard deviation of a language model's embeddings."""
    table = lm.embed(torch.arange(lm.vocab_size, device=lm.device))
    return float(table.float().std())
