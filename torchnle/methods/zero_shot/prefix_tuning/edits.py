"""Edits of the next token's logits in the generation of a sentence (appendix I)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torchnle.language.model import LanguageModel

#: The scores of tokens that were generated before are divided by this (Keskar et al., 2019).
REPETITION = 2.0
#: No sequence of so many tokens comes twice.
NGRAM = 3
#: The full stop is forbidden before so many tokens, and made likelier in the last so many.
LEAST, HURRY = 10, 4


def edited(
    logits: Float[Tensor, "V"], previous: Sequence[int], allowed: Bool[Tensor, "V"], stop: int, most: int
) -> Float[Tensor, "V"]:
    """Apply the repetition penalty, the rule on repeated n-grams, and the rules on the sentence's length.

    Args:
        logits: The logits of the next token.
        previous: The tokens so far.
        allowed: The tokens that may be generated.
        stop: The token of the full stop.
        most: The largest number of tokens of the sentence.

    Returns:
        The edited logits.

    Example:
        >>> allowed = torch.tensor([True, True, False])
        >>> edited(torch.tensor([2.0, -1.0, 5.0]), [0, 1], allowed, stop=2, most=20).tolist()
        [1.0, -2.0, -inf]
    """
    found = logits.clone()
    known = torch.tensor(sorted(set(previous)), dtype=torch.long, device=logits.device)
    found[known] = torch.where(found[known] > 0, found[known] / REPETITION, found[known] * REPETITION)
    found = found.masked_fill(~allowed, -torch.inf)
    found[_repeating(previous)] = -torch.inf
    if len(previous) < min(LEAST, most - 1):
        found[stop] = -torch.inf
    elif len(previous) >= most - HURRY:
        found[stop] = logits[stop] + logits.std() * (len(previous) - (most - HURRY) + 1)
    return found


def _repeating(previous: Sequence[int]) -> list[int]:
    """The tokens that would make an n-gram come twice."""
    before = tuple(previous[len(previous) - NGRAM + 1 :]) if len(previous) >= NGRAM - 1 else None
    starts = range(len(previous) - NGRAM + 1) if before is not None else ()
    return [previous[i + NGRAM - 1] for i in starts if tuple(previous[i : i + NGRAM - 1]) == before]


def plain_tokens(lm: LanguageModel, unwanted: Sequence[int] = ()) -> Bool[Tensor, "V"]:
    """Mark the tokens that consist of letters, blanks, hyphens, commas and full stops only.

    Args:
        lm: The language model.
        unwanted: Further tokens to exclude.
    """
    allowed = torch.zeros(lm.vocab_size, dtype=torch.bool, device=lm.device)
    before = lm.tokenize(["a"])[0][-1]
    start = len(lm.detokenize([before]))
    for token in range(min(lm.vocab_size, len(lm.tokenizer))):
        text = lm.detokenize([before, token])[start:]
        allowed[token] = bool(text.strip()) and all(
            c.isascii() and (c.isalpha() or c in " -,.") for c in text
        )
    allowed[list(unwanted)] = False
    return allowed
