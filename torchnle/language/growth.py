"""Texts that grow together, a token a step, and leave the batch when they are finished."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.language.model import LanguageModel

if TYPE_CHECKING:
    from transformers import DynamicCache

#: Rows are taken out of the batch when fewer than this share of it is unfinished. Moving the keys and
#: values costs about as much as the steps it saves when this is near one.
COMPACT_BELOW = 0.5

#: Picks the next tokens: from hidden states (R, W), the numbers (R,) of their rows, and the step, to tokens
#: (R,) and their log-probabilities (R,).
Choose: TypeAlias = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


class Row:
    """One text while it grows."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.log_probs: list[float] = []
        self.finished = False

    def take(self, lm: LanguageModel, token: int, log_prob: float, stop: str | None) -> None:
        """Add a token, or finish."""
        if self.finished:
            return
        if token in lm.eos_ids:
            self.finished = True
            return
        self.ids.append(token)
        self.log_probs.append(log_prob)
        self.finished = stop is not None and stop in lm.detokenize(self.ids)


def cut(lm: LanguageModel, ids: list[int], stop: str | None) -> tuple[int, str]:
    """How many tokens the text before `stop` needs, and that text without blanks at its end."""
    text, kept = lm.detokenize(ids), len(ids)
    if stop is None or stop not in text:
        return kept, text
    text = text[: text.index(stop)].rstrip()
    while kept and lm.detokenize(ids[: kept - 1]).startswith(text):
        kept -= 1
    return kept, text


def grow(
    lm: LanguageModel,
    hidden: Float[Tensor, "R W"],
    cache: DynamicCache,
    choose: Choose,
    *,
    stop: str | None,
    max_new_tokens: int,
) -> list[Row]:
    """Continue every row until it ends.

    Args:
        lm: The language model.
        hidden: What the head sees after each row's context.
        cache: The keys and values of the contexts; used up.
        choose: Picks the tokens.
        stop: A string that ends a text.
        max_new_tokens: The most tokens of a text.
    """
    rows = [Row() for _ in range(hidden.shape[0])]
    places = torch.arange(len(rows), device=hidden.device)  # the rows in the cache, finished or not
    for step in range(max_new_tokens):
        tokens, log_probs = choose(hidden, places, step)
        batch = [rows[place] for place in places.tolist()]
        for row, token, log_prob in zip(batch, tokens.tolist(), log_probs.tolist(), strict=True):
            row.take(lm, token, log_prob, stop)
        live = [place for place, row in enumerate(batch) if not row.finished]
        if not live or step == max_new_tokens - 1:
            break
        if len(live) < COMPACT_BELOW * len(batch):
            keep = torch.tensor(live, device=tokens.device)
            cache.batch_select_indices(keep)
            places, tokens = places[keep], tokens[keep]
        hidden = lm.hidden(lm.embed(tokens[:, None]), cache=cache)[:, 0]
    return rows
