"""Words from prefixes: all rows are decoded together, and leave the batch when they are finished."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchnle import ops
from torchnle.language.batching import batches
from torchnle.language.model import LanguageModel

#: Rows are taken out of the batch when fewer than this share of it is unfinished. Moving the keys and
#: values costs about as much as the steps it saves when this is near one.
_COMPACT_BELOW = 0.5


@dataclass(frozen=True)
class Decoded:
    """What a language model said for every row.

    Args:
        texts: The words, as the tokenizer spells them (a leading space is kept).
        ids: The tokens of each text, without the one that ended it.
        log_probs: log p(ids | prefix) in nats, summed over the tokens of `ids`, (R,) float32.
    """

    texts: list[str]
    ids: list[list[int]]
    log_probs: Float[Tensor, "R"]


@torch.no_grad()
def greedy(
    lm: LanguageModel,
    prefixes: Float[Tensor, "R P E"],
    *,
    prompt: str = "",
    stop: str | None = None,
    max_new_tokens: int = 20,
    internal_batch_size: int | None = None,
) -> Decoded:
    """Continue every prefix with the most probable token, again and again.

    A row ends at an end-of-text token, where its text contains `stop`, or after `max_new_tokens`.

    Args:
        lm: The language model.
        prefixes: One soft prompt a row, (R, P, E), on the model's device.
        prompt: Words between the prefix and the answer, the same for all rows.
        stop: A string that ends a text; it, what follows it and blanks before it are left out.
        max_new_tokens: The most tokens to generate.
        internal_batch_size: The most rows in the model at a time; None = all.

    Raises:
        ValueError: If the prefixes do not fit the model, a number is not positive, `stop` is empty, or
            the model has too few positions.

    Example:
        >>> from torchnle.language import LanguageModel  # doctest: +SKIP
        >>> lm = LanguageModel.from_pretrained()  # doctest: +SKIP
        >>> prefix = lm.embed(torch.tensor([lm.tokenize(["The capital of France is"])[0]]))  # doctest: +SKIP
        >>> greedy(lm, prefix, max_new_tokens=1).texts  # doctest: +SKIP
        [' Paris']
    """
    if max_new_tokens < 1 or stop == "":
        raise ValueError(
            f"max_new_tokens={max_new_tokens}, stop={stop!r}; pass a positive number and some text."
        )
    rows: list[_Row] = []
    for batch in batches(prefixes, internal_batch_size):
        rows += _decode(lm, lm.context(batch, prompt), stop, max_new_tokens)
    cut = [row.cut(lm, stop) for row in rows]
    log_probs = torch.tensor(
        [sum(row.log_probs[:kept]) for row, (kept, _) in zip(rows, cut, strict=True)], dtype=torch.float32
    )
    return Decoded(
        texts=[text for _, text in cut],
        ids=[row.ids[:kept] for row, (kept, _) in zip(rows, cut, strict=True)],
        log_probs=log_probs.to(prefixes.device),
    )


class _Row:
    """One text while it grows."""

    def __init__(self) -> None:
        self.ids: list[int] = []
        self.log_probs: list[float] = []
        self.finished = False

    def take(self, lm: LanguageModel, token: int, log_prob: float, stop: str | None) -> None:
        if self.finished:
            return
        if token in lm.eos_ids:
            self.finished = True
            return
        self.ids.append(token)
        self.log_probs.append(log_prob)
        self.finished = stop is not None and stop in lm.detokenize(self.ids)

    def cut(self, lm: LanguageModel, stop: str | None) -> tuple[int, str]:
        """How many tokens the text before `stop` needs, and that text."""
        text, kept = lm.detokenize(self.ids), len(self.ids)
        if stop is None or stop not in text:
            return kept, text
        text = text[: text.index(stop)].rstrip()
        while kept and lm.detokenize(self.ids[: kept - 1]).startswith(text):
            kept -= 1
        return kept, text


def _decode(
    lm: LanguageModel, context: Float[Tensor, "R C E"], stop: str | None, max_new_tokens: int
) -> list[_Row]:
    lm.require_positions(context.shape[1] + max_new_tokens - 1, f"max_new_tokens={max_new_tokens}")
    rows = [_Row() for _ in range(context.shape[0])]
    batch = rows  # the rows that are in the cache, finished or not
    cache = lm.new_cache()
    hidden = lm.hidden(context, cache=cache)[:, -1]
    for step in range(max_new_tokens):
        tokens, log_probs = _most_probable(lm, hidden)
        for row, token, log_prob in zip(batch, tokens.tolist(), log_probs.tolist(), strict=True):
            row.take(lm, token, log_prob, stop)
        live = [place for place, row in enumerate(batch) if not row.finished]
        if not live or step == max_new_tokens - 1:
            break
        if len(live) < _COMPACT_BELOW * len(batch):
            keep = torch.tensor(live, device=tokens.device)
            cache.batch_select_indices(keep)
            batch, tokens = [batch[place] for place in live], tokens[keep]
        hidden = lm.hidden(lm.embed(tokens[:, None]), cache=cache)[:, 0]
    return rows


def _most_probable(
    lm: LanguageModel, hidden: Float[Tensor, "R W"]
) -> tuple[Int[Tensor, "R"], Float[Tensor, "R"]]:
    weight, bias = lm.head
    lse, top, token = ops.linear_lse(hidden.contiguous(), weight, bias, need_argmax=True)
    return token, top - lse
