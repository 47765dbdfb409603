"""Batched decoding, one token per step; finished texts leave the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol, TypeAlias, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.language.model import LanguageModel

if TYPE_CHECKING:
    from transformers import DynamicCache

#: Picks the next tokens: from hidden states (R, W), the numbers (R,) of their rows, and the step, to tokens
#: (R,) and their log-probabilities (R,).
Choose: TypeAlias = Callable[[Tensor, Tensor, int], tuple[Tensor, Tensor]]


def compact_below(device: torch.device) -> float:
    """Return the share of unfinished rows below which finished rows are removed from the batch.

    On a CPU a row is removed as soon as it ends: this copies the keys and values once, as every step does
    anyway (keeping 46 of 98 rows took as long as a step of three rows). On other devices half of the rows
    must have ended, so that few shapes occur.

    Args:
        device: The device of the model.

    Example:
        >>> compact_below(torch.device("cpu")), compact_below(torch.device("cuda"))
        (1.0, 0.5)
    """
    return 1.0 if device.type == "cpu" else 0.5


@runtime_checkable
class Speller(Protocol):
    """A model whose texts end at certain tokens, and that spells tokens."""

    @property
    def eos_ids(self) -> tuple[int, ...]:
        """The tokens that end a text."""

    def detokenize(self, ids: Sequence[int]) -> str:
        """Turn token ids into a text."""


class Ends:
    """The criterion by which a text ends: an end-of-text token or a stop string.

    Args:
        lm: The model, whose end-of-text tokens end a text.
        stop: A string that ends a text; None for none.
    """

    def __init__(self, lm: Speller, stop: str | None) -> None:
        self.eos = lm.eos_ids
        self.stop = stop
        self.spell = lm.detokenize

    def reached(self, ids: list[int]) -> bool:
        """Return whether the last token ended the text."""
        return ids[-1] in self.eos or (self.stop is not None and self.stop in self.spell(ids))

    def cut(self, ids: list[int]) -> tuple[int, str]:
        """Return the number of tokens before a text's end, and the text up to it without trailing blanks."""
        length = len(ids) - 1 if ids[-1] in self.eos else len(ids)
        text = self.spell(ids[:length])
        if self.stop is None or self.stop not in text:
            return length, text
        text = text[: text.index(self.stop)].rstrip()
        while length and self.spell(ids[: length - 1]).startswith(text):
            length -= 1
        return length, text


@dataclass
class Row:
    """The state of one text in decoding: its tokens, their log-probabilities, whether it has ended."""

    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    finished: bool = False


def decode_rows(
    lm: LanguageModel,
    hidden: Float[Tensor, "R W"],
    cache: DynamicCache,
    choose: Choose,
    *,
    ends: Ends,
    max_new_tokens: int,
) -> list[Row]:
    """Decode every row until it ends or has `max_new_tokens` tokens.

    Args:
        lm: The language model.
        hidden: The hidden state after each row's context.
        cache: The keys and values of the contexts; it is changed.
        choose: Chooses the next token of each row.
        ends: The criterion for the end of a text.
        max_new_tokens: The largest number of tokens of a text.

    Returns:
        The finished rows, in order.
    """
    rows = [Row() for _ in range(hidden.shape[0])]
    indices = torch.arange(len(rows), device=hidden.device)  # the rows in the cache, finished or not
    share = compact_below(hidden.device)
    for step in range(max_new_tokens):
        tokens, log_probs = choose(hidden, indices, step)
        batch = [rows[index] for index in indices.tolist()]
        for row, token, log_prob in zip(batch, tokens.tolist(), log_probs.tolist(), strict=True):
            if row.finished:
                continue
            row.ids.append(token)
            row.log_probs.append(log_prob)
            row.finished = ends.reached(row.ids)
        live = [index for index, row in enumerate(batch) if not row.finished]
        if not live or step == max_new_tokens - 1:
            break
        if len(live) < share * len(batch):
            keep = torch.tensor(live, device=tokens.device)
            cache.batch_select_indices(keep)
            indices, tokens = indices[keep], tokens[keep]
        hidden = lm.hidden(lm.embed(tokens[:, None]), cache=cache)[:, 0]
    return rows
