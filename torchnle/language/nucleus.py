"""Nucleus sampling (Holtzman et al., 2020, section 3.1), from given uniform numbers."""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor


def draw(
    logits: Float[Tensor, "R V"], uniform: Float[Tensor, "R"], *, top_p: float, temperature: float
) -> Int[Tensor, "R"]:
    """Draw a token a row from the smallest set of tokens that holds `top_p` of the probability.

    A row's token depends on its logits and its number alone, so that it is the same in any batch.

    Args:
        logits: (R, V).
        uniform: One number a row, uniform in [0, 1).
        top_p: The share of the probability to draw from, in (0, 1]; the most probable token is always in.
        temperature: What the logits are divided by, above 0.

    Example:
        >>> import torch
        >>> draw(torch.tensor([[0.0, 9.0]]), torch.tensor([0.99]), top_p=0.5, temperature=1.0).tolist()
        [1]
    """
    probabilities, order = (
        (logits.float() / temperature).softmax(dim=1).sort(dim=1, descending=True, stable=True)
    )
    cumulative = probabilities.cumsum(dim=1)
    last = (cumulative < top_p).sum(dim=1, keepdim=True).clamp_(max=logits.shape[1] - 1)
    level = uniform[:, None].to(cumulative) * cumulative.gather(1, last)
    rank = (cumulative <= level).sum(dim=1, keepdim=True).minimum(last)
    return order.gather(1, rank)[:, 0]
