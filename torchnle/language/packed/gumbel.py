"""Gumbel noise in a tree, drawn from the root down (Kool et al., 2019, "Stochastic beams")."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor


def gumbel(uniform: Float[Tensor, "*shape"]) -> Float[Tensor, "*shape"]:
    """Convert uniform numbers in [0, 1) to standard Gumbel ones, in float64."""
    tiny = torch.finfo(torch.float64).tiny
    return -(-uniform.double().clamp_min(tiny).log()).clamp_min(tiny).log()


def below(
    log_probs: Float[Tensor, "B K"], parents: Float[Tensor, "B"], uniform: Float[Tensor, "B K"]
) -> Float[Tensor, "B K"]:
    """Draw the perturbed log-probabilities of the children of some nodes, whose largest is the parent's own.

    That of a leaf is then its log-probability plus a Gumbel number, independent of all other leaves', and
    that of a node is the largest below it: the leaves of a beam of k are the k largest of all, which is a
    sample without replacement.

    Args:
        log_probs: The log-probability of each child, with all of its path; minus infinity for none.
        parents: The perturbed log-probability of each parent.
        uniform: One number a child.

    Example:
        >>> shares = torch.tensor([[0.5, 0.5]]).log().double()
        >>> below(shares, torch.tensor([1.5]).double(), torch.tensor([[0.3, 0.9]])).amax().item()
        1.5
    """
    noisy = log_probs.double() + gumbel(uniform)
    largest = noisy.amax(dim=1, keepdim=True)
    parent = parents.double()[:, None]
    gap = parent - noisy + torch.log1p(-(noisy - largest).exp())
    conditioned = parent - gap.clamp_min(0) - torch.log1p((-gap.abs()).exp())
    return conditioned.masked_fill(noisy == -torch.inf, -torch.inf)


def log_inclusion(log_probs: Float[Tensor, "k"], threshold: float) -> Float[Tensor, "k"]:
    """Compute the logarithm of the probability that a perturbed log-probability exceeds a threshold.

    ``1 - exp(-exp(log p - threshold))`` (Kool et al., 2019, section 4.2).
    """
    return torch.log(-torch.expm1(-(log_probs.double() - threshold).exp()))
