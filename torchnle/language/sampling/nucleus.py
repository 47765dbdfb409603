"""Nucleus sampling (Holtzman et al., 2020, section 3.1), from given uniform numbers."""

from __future__ import annotations

from typing import NamedTuple

import torch
from jaxtyping import Float, Int
from torch import Tensor

#: So many of the most probable tokens are looked at first: to sort all 49,152 of SmolLM2 takes ten times as
#: long.
_FIRST = 1024


class Nucleus(NamedTuple):
    """The smallest sets of tokens that hold a share of the probability, one per row.

    Args:
        tokens: The most probable tokens, best first, (R, K); those beyond a row's nucleus are ignored.
        shares: Their probabilities, (R, K).
        cumulative: Their cumulative sums, (R, K).
        last: The position of the last token of each nucleus, (R, 1).
    """

    tokens: Int[Tensor, "R K"]
    shares: Float[Tensor, "R K"]
    cumulative: Float[Tensor, "R K"]
    last: Int[Tensor, "R 1"]

    @classmethod
    def of(cls, logits: Float[Tensor, "R V"], *, top_p: float, temperature: float) -> Nucleus:
        """Find each row's nucleus.

        Args:
            logits: (R, V).
            top_p: The share of the probability, in (0, 1]; the most probable token is always in.
            temperature: The divisor of the logits, above 0.
        """
        probabilities = (logits.float() / temperature).softmax(dim=1)
        few = min(_FIRST, probabilities.shape[1])
        values, tokens = probabilities.topk(few, dim=1)
        cumulative = values.cumsum(dim=1)
        if few < probabilities.shape[1] and bool((cumulative[:, -1] < top_p).any()):
            values, tokens = probabilities.sort(dim=1, descending=True, stable=True)
            cumulative = values.cumsum(dim=1)
        last = (cumulative < top_p).sum(dim=1, keepdim=True).clamp_(max=tokens.shape[1] - 1)
        return cls(tokens, values, cumulative, last)

    def pick(self, uniform: Float[Tensor, "S"], rows: Int[Tensor, "S"]) -> Int[Tensor, "S"]:
        """Draw a token for each number, uniform in [0, 1), from the nucleus of its row."""
        cumulative, last = self.cumulative[rows], self.last[rows]
        level = uniform[:, None].to(cumulative) * cumulative.gather(1, last)
        rank = (cumulative <= level).sum(dim=1, keepdim=True).minimum(last)
        return self.tokens[rows].gather(1, rank)[:, 0]

    def log_probs(self) -> Float[Tensor, "R K"]:
        """Compute each token's log-probability of being drawn; minus infinity outside the nucleus."""
        inside = torch.arange(self.shares.shape[1], device=self.shares.device) <= self.last
        logs = (self.shares.double() / self.cumulative.double().gather(1, self.last)).log()
        return logs.masked_fill(~inside, -torch.inf)


def draw(
    logits: Float[Tensor, "R V"], uniform: Float[Tensor, "R"], *, top_p: float, temperature: float
) -> Int[Tensor, "R"]:
    """Draw a token per row from the smallest set of tokens that holds `top_p` of the probability.

    A row's token depends on its logits and its number alone, so that it is the same in any batch.

    Args:
        logits: (R, V).
        uniform: One number per row, uniform in [0, 1).
        top_p: The share of the probability to draw from, in (0, 1]; the most probable token is always in.
        temperature: The divisor of the logits, above 0.

    Example:
        >>> import torch
        >>> draw(torch.tensor([[0.0, 9.0]]), torch.tensor([0.99]), top_p=0.5, temperature=1.0).tolist()
        [1]
    """
    rows = torch.arange(len(logits), device=logits.device)
    return Nucleus.of(logits, top_p=top_p, temperature=temperature).pick(uniform, rows)
