"""Contexts with cached keys and values, for scoring many continuations."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchnle import ops
from torchnle.language.model import LanguageModel
from torchnle.language.packed.batching import batches

if TYPE_CHECKING:
    from transformers import DynamicCache

#: Products of a hidden state and a token's weights in memory at a time.
_PRODUCTS = 4096


class Reader:
    """Contexts with cached keys and values, from which continuations are scored without reading them again.

    Args:
        lm: The language model.
        prefixes: One soft prompt per row, (R, P, E).
        prompt: The text between the prefix and the continuations.
        longest: The largest number of tokens of a continuation.
    """

    def __init__(self, lm: LanguageModel, prefixes: Tensor, prompt: str, longest: int) -> None:
        context = lm.context(prefixes, prompt)
        lm.require_positions(context.shape[1] + longest - 1, f"the longest text, of {longest} tokens,")
        self.lm = lm
        self.cache, rest = lm.begin(context)
        self.root = lm.hidden(rest, cache=self.cache)[:, -1].contiguous()

    def first(self, token: int) -> Float[Tensor, "R"]:
        """Compute the log-probability of one token directly after every context."""
        rows = torch.arange(len(self.root), device=self.root.device)
        return self.log_probs(self.root, rows, torch.full_like(rows, token))

    def rest(self, rows: Int[Tensor, "B"], ids: list[int]) -> Float[Tensor, "B"]:
        """Compute the summed log-probability of a text's tokens after its first, on selected rows."""
        hidden = self.read(rows, [ids[:-1]] * len(rows)).flatten(0, 1)
        targets = torch.tensor(ids[1:], device=hidden.device).repeat(len(rows))
        positions = torch.arange(len(hidden), device=hidden.device)
        return self.log_probs(hidden, positions, targets).view(len(rows), -1).sum(dim=1)

    def read(self, rows: Int[Tensor, "B"], paths: Sequence[list[int]]) -> Float[Tensor, "B L W"]:
        """Compute the hidden states after each token of one path per row; the cache is not changed."""
        longest = max(map(len, paths))
        padded = [path + [0] * (longest - len(path)) for path in paths]
        words = self.lm.embed(torch.tensor(padded, device=self.lm.device))
        return self.lm.hidden(words, cache=self._of(rows))

    def _of(self, rows: Int[Tensor, "B"]) -> DynamicCache:
        """The keys and values of some rows, as a cache of their own."""
        chosen = copy.copy(self.cache)
        if not self.lm.plain:
            chosen.layers = [copy.copy(layer) for layer in self.cache.layers]
        chosen.batch_select_indices(rows)  # makes new tensors
        return chosen

    def log_probs(
        self, hidden: Float[Tensor, "B W"], positions: Int[Tensor, "E"], tokens: Int[Tensor, "E"]
    ) -> Float[Tensor, "E"]:
        """Compute the log-probability of tokens that follow given hidden states.

        Args:
            hidden: Hidden states, (B, W).
            positions: The hidden state before each token, as an index.
            tokens: The tokens.
        """
        weight, bias = self.lm.head
        lse, _, _ = ops.linear_lse(hidden.contiguous(), weight, bias)
        logits = [
            (hidden[position].to(lse.dtype) * weight[token].to(lse.dtype)).sum(dim=1)
            for position, token in zip(batches(positions, _PRODUCTS), batches(tokens, _PRODUCTS), strict=True)
        ]
        total = torch.cat(logits) - lse[positions]
        return total if bias is None else total + bias[tokens].to(lse.dtype)
