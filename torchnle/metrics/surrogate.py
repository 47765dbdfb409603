"""Faithfulness of an explanation over all outputs of a model, by a linear surrogate (SURF)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

#: Penalties of the surrogate, as shares of the mean square of its inputs' singular values.
_PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)


@dataclass(frozen=True)
class Surrogate:
    """The faithfulness of a linear surrogate on images that it was not fitted to.

    Args:
        distance: The mean earth mover's distance between the model's probabilities and the surrogate's, all
            classes being equally far from each other: half of the sum of absolute differences.
        agreement: The share of images on which both predict the same class.
        penalty: Of the ridge regression, chosen on a fifth of the fitted images.
    """

    distance: float
    agreement: float
    penalty: float


def distance(first: Float[Tensor, "N C"], second: Float[Tensor, "N C"]) -> Float[Tensor, "N"]:
    """Compute the earth mover's distance between distributions over classes that are equally far apart.

    Example:
        >>> distance(torch.tensor([[1.0, 0.0], [0.5, 0.5]]), torch.tensor([[0.0, 1.0], [0.5, 0.5]])).tolist()
        [1.0, 0.0]
    """
    return (first - second).abs().sum(dim=1) / 2


@torch.no_grad()
def linear_surrogate(
    explanations: Float[Tensor, "N Z"],
    logits: Float[Tensor, "N C"],
    held_out: Float[Tensor, "M Z"],
    truth: Float[Tensor, "M C"],
) -> Surrogate:
    """Measure how well ridge regression predicts a model's logits from explanations, on other images (SURF).

    An explanation is faithful to the model as far as all outputs of the model can be predicted from it by a
    linear model. Compare with the explanations of shuffled images, which carry no information, and with as
    many random directions as there are concepts.

    Args:
        explanations: The activation of each concept, one row per image.
        logits: The model's logits for the same images.
        held_out: The explanations of other images.
        truth: The model's logits for these.

    Raises:
        ValueError: If there are fewer than five images to fit to, none to compare on, or the sizes differ.

    Example:
        >>> x = torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
        >>> found = linear_surrogate(x[:30], 5 * x[:30], x[30:], 5 * x[30:])
        >>> found.agreement, found.distance < 0.01
        (1.0, True)
    """
    if len(explanations) < 5 or not len(held_out):
        raise ValueError(
            f"{len(explanations)} images to fit to and {len(held_out)} to compare on were given; pass at "
            "least 5 and 1."
        )
    if len(explanations) != len(logits) or len(held_out) != len(truth):
        raise ValueError(
            f"{len(explanations)} and {len(held_out)} explanations were given with {len(logits)} and "
            f"{len(truth)} rows of logits; pass as many."
        )
    cut = max(1, len(explanations) // 5)
    fitted, chosen_on = slice(cut, None), slice(0, cut)
    penalty = min(
        _PENALTIES,
        key=lambda p: _compare(
            _predict(explanations[fitted], logits[fitted], explanations[chosen_on], p), logits[chosen_on]
        )[0],
    )
    apart, same = _compare(_predict(explanations, logits, held_out, penalty), truth)
    return Surrogate(apart, same, penalty)


def _predict(
    x: Float[Tensor, "N Z"], y: Float[Tensor, "N C"], queries: Float[Tensor, "M Z"], penalty: float
) -> Float[Tensor, "M C"]:
    """Fit ridge regression with an intercept in its dual form, and predict."""
    means, level = x.mean(dim=0), y.mean(dim=0)
    centered = (x - means).double()
    kernel = centered @ centered.T
    mean = kernel.diagonal().mean()
    scale = penalty * torch.where(mean > 0, mean, 1.0)
    weights = torch.linalg.solve(
        kernel + scale * torch.eye(len(x), dtype=kernel.dtype, device=x.device), (y - level).double()
    )
    found: Tensor = ((queries - means).double() @ centered.T @ weights).to(y) + level
    return found


def _compare(predicted: Float[Tensor, "M C"], truth: Float[Tensor, "M C"]) -> tuple[float, float]:
    apart = distance(predicted.softmax(dim=1), truth.softmax(dim=1)).mean()
    return float(apart), float((predicted.argmax(dim=1) == truth.argmax(dim=1)).float().mean())
