"""A linear classifier on fixed features: multinomial logistic regression, solved to convergence."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

#: Steps of L-BFGS; few are needed on standardised features.
_STEPS = 200


@dataclass(frozen=True)
class Linear:
    """The last layer of a classifier.

    Args:
        weight: (C, D).
        bias: (C,).
    """

    weight: Float[Tensor, "C D"]
    bias: Float[Tensor, "C"]

    def __call__(self, features: Float[Tensor, "N D"]) -> Float[Tensor, "N C"]:
        """The logits."""
        return features.to(self.weight) @ self.weight.T + self.bias


def fit_linear(
    features: Float[Tensor, "N D"],
    labels: Int[Tensor, "M"],
    classes: int,
    *,
    weights: Float[Tensor, "N"] | None = None,
    penalty: float = 1e-2,
    start: Linear | None = None,
) -> Linear:
    """Fit a linear classifier by penalised multinomial logistic regression.

    The loss is the weighted mean cross-entropy plus half the penalty times the squared weights. Features are
    standardised here, so that one penalty suits features of any scale; biases are not penalised.

    Args:
        features: One row per image.
        labels: The classes.
        classes: How many there are.
        weights: Of the rows, scaled to mean 1; None = equal.
        penalty: Of the squared weights on standardised features.
        start: Penalise the distance from this classifier instead of from zero: a fine-tuning whose end does
            not depend on a step size.

    Raises:
        ValueError: If rows and labels do not fit, a label is out of range, a class has no image, or the
            penalty is not positive.

    Example:
        >>> x, y = torch.tensor([[-1.0], [-2.0], [1.0], [2.0]]), torch.tensor([0, 0, 1, 1])
        >>> fit_linear(x, y, 2)(x).argmax(dim=1).tolist()
        [0, 0, 1, 1]
    """
    _check(features, labels, classes, penalty)
    given = features.detach().double()
    mean, scale = given.mean(dim=0), given.std(dim=0).clamp_min(1e-6)
    x = (given - mean) / scale
    shares = torch.ones(len(x), dtype=torch.float64) if weights is None else weights.double()
    shares = shares / shares.sum()
    anchor = torch.zeros(classes, x.shape[1], dtype=torch.float64)
    offset = torch.zeros(classes, dtype=torch.float64)
    if start is not None:
        anchor = start.weight.double() * scale
        offset = start.bias.double() + start.weight.double() @ mean
    weight, bias = anchor.clone().requires_grad_(), offset.clone().requires_grad_()
    solver = torch.optim.LBFGS(
        [weight, bias],
        max_iter=_STEPS,
        tolerance_grad=1e-5,
        tolerance_change=1e-9,
        line_search_fn="strong_wolfe",
    )

    def closure() -> Tensor:
        solver.zero_grad()
        losses = F.cross_entropy(x @ weight.T + bias, labels, reduction="none")
        loss = (shares * losses).sum() + penalty / 2 * (weight - anchor).square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        solver.step(closure)  # type: ignore[no-untyped-call]
    found = weight.detach() / scale
    return Linear(found.float(), (bias.detach() - found @ mean).float())


def deal(parts: Int[Tensor, "N"], folds: int, seed: int = 0) -> Int[Tensor, "N"]:
    """Deal images to folds at random, those of each part evenly.

    Args:
        parts: The part of each image: its class, or its group.
        folds: The number of folds.
        seed: Of the order within a part.

    Example:
        >>> deal(torch.tensor([0, 0, 1, 1]), folds=2).view(2, 2).sum(dim=1).tolist()
        [1, 1]
    """
    generator = torch.Generator().manual_seed(seed)
    dealt = torch.zeros_like(parts)
    for part in torch.unique(parts):
        rows = (parts == part).nonzero()[:, 0]
        dealt[rows[torch.randperm(len(rows), generator=generator)]] = torch.arange(len(rows)) % folds
    return dealt


def _check(features: Tensor, labels: Tensor, classes: int, penalty: float) -> None:
    if len(features) != len(labels) or not len(labels) or not penalty > 0:
        raise ValueError(
            f"{len(features)} rows of features, {len(labels)} labels, penalty={penalty}; pass one label a "
            f"row, and a "
            "positive penalty."
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"labels from {int(labels.min())} to {int(labels.max())} for {classes} classes; pass 0 to "
            f"{classes - 1}."
        )
    counts = torch.bincount(labels, minlength=classes)
    if not counts.all():
        missing = (counts == 0).nonzero()[:, 0].tolist()
        raise ValueError(f"classes {missing} have no image; leave them out, or pass images of them.")
