"""Scoring functions of candidate labels by the activations of their images (A.1.4, A.1.5)."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

#: Of each candidate's images, so many count in the squared ranks (the paper's beta), and so many in the
#: comparison with the exemplars (its t).
BEST, COMPARED = 5, 10
Scoring: TypeAlias = Literal["mean", "top squared", "image products", "top squared and products"]


def ranks(activations: Float[Tensor, "C Q"]) -> Int[Tensor, "C Q"]:
    """Rank all candidates' images together by activation, 1 = the most active; equal ones in their order.

    Args:
        activations: A unit's activation in each image of each candidate.

    Returns:
        Each candidate's ranks H_j, the lowest first.

    Example:
        >>> ranks(torch.tensor([[5.0, 1.0], [4.0, 3.0]]))
        tensor([[1, 4], [2, 3]])
    """
    order = activations.flatten().argsort(descending=True, stable=True)
    found = torch.empty_like(order)
    found[order] = torch.arange(1, len(order) + 1)
    return found.view(activations.shape).sort(dim=1).values


def mean_score(activations: Float[Tensor, "C Q"]) -> Float[Tensor, "C"]:
    """Score candidates by the negative mean of their images' ranks.

    Example:
        >>> mean_score(torch.tensor([[5.0, 1.0], [4.0, 3.0]]))
        tensor([-2.5000, -2.5000])
    """
    return -ranks(activations).float().mean(dim=1)


def top_squared_score(activations: Float[Tensor, "C Q"], best: int = BEST) -> Float[Tensor, "C"]:
    """Score candidates by the negative mean of the squared ranks of their most active images.

    Args:
        activations: A unit's activation in each image of each candidate.
        best: So many of each candidate's images count.

    Example:
        >>> top_squared_score(torch.tensor([[5.0, 1.0], [4.0, 3.0]]), best=1)
        tensor([-1., -4.])
    """
    return -ranks(activations)[:, :best].float().square().mean(dim=1)


def image_products(
    activations: Float[Tensor, "C Q"],
    images: Float[Tensor, "C Q E"],
    exemplars: Float[Tensor, "K E"],
    compared: int = COMPARED,
) -> Float[Tensor, "C"]:
    """Score candidates by the similarity of their most active images to the unit's exemplars.

    Args:
        activations: A unit's activation in each image of each candidate.
        images: A feature of each image (the paper: of CLIP-ViT-B/16).
        exemplars: The same of the unit's exemplars.
        compared: So many of each candidate's images are compared.

    Returns:
        Mean cosines.

    Example:
        >>> image_products(torch.ones(1, 1), torch.tensor([[[1.0, 0.0]]]), torch.tensor([[2.0, 0.0]]))
        tensor([1.])
    """
    chosen = activations.argsort(dim=1, descending=True, stable=True)[:, :compared]
    best = images.gather(1, chosen[..., None].expand(-1, -1, images.shape[2]))
    return torch.einsum("cqe,ke->cqk", F.normalize(best, dim=2), F.normalize(exemplars, dim=1)).mean(
        dim=(1, 2)
    )


def score_candidates(
    scoring: Scoring,
    activations: Float[Tensor, "C Q"],
    images: Float[Tensor, "C Q E"] | None = None,
    exemplars: Float[Tensor, "K E"] | None = None,
) -> Float[Tensor, "C"]:
    """Score a unit's candidates by one of the paper's functions; the label has the largest score.

    "top squared and products" multiplies the image products with (C - rank), where the candidate of the best
    squared ranks has rank 0, so that a single candidate does not score zero.

    Args:
        scoring: Which function.
        activations: The unit's activation in each image of each candidate.
        images: A feature of each image, for the two functions that compare images.
        exemplars: The same of the unit's exemplars.

    Raises:
        ValueError: If the function has another name, or needs features that are not there.

    Example:
        >>> score_candidates("mean", torch.tensor([[5.0], [4.0]]))
        tensor([-1., -2.])
    """
    if scoring == "mean":
        return mean_score(activations)
    if scoring == "top squared":
        return top_squared_score(activations)
    if scoring not in ("image products", "top squared and products"):
        raise ValueError(f"scoring={scoring!r}; pass one of {Scoring.__args__}.")  # type: ignore[attr-defined]
    if images is None or exemplars is None:
        raise ValueError(f"scoring={scoring!r} compares images; pass features of them and of the exemplars.")
    products = image_products(activations, images, exemplars)
    if scoring == "image products":
        return products
    order = top_squared_score(activations).argsort(descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    return (len(order) - rank) * products
