"""Agreement of a label's presence in images with a unit's activation in them.

Correlation, cosine, AUPRC and F1/IoU notice labels that are added or left out in more than 90 % of units
(Oikarinen et al., "Evaluating neuron explanations", 2025); CoSy's AUC and MAD do not, and are included for
comparison with published results.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

#: A unit is active in this share of images.
ACTIVE = 0.01


def correlation(presence: Float[Tensor, "N U"], activations: Float[Tensor, "N U"]) -> Float[Tensor, "U"]:
    """Compute Pearson's correlation of each label's presence with its unit's activation; 0 without variance.

    Args:
        presence: The presence of each unit's label in each image: 0 or 1, a probability, or a prediction.
        activations: Each unit's activation in each image.

    Raises:
        ValueError: If the shapes differ or there are fewer than two images.

    Example:
        >>> correlation(torch.tensor([[0.0], [1.0], [1.0]]), torch.tensor([[0.0], [2.0], [2.0]]))
        tensor([1.])
    """
    _check(presence, activations)
    a, b = (x.double() - x.double().mean(dim=0) for x in (presence, activations))
    return _cosine(a, b)


def cosine(presence: Float[Tensor, "N U"], activations: Float[Tensor, "N U"]) -> Float[Tensor, "U"]:
    """Compute the cosine of each label's presence with its unit's activation; 0 for an inactive unit.

    Args:
        presence: As `correlation`.
        activations: As `correlation`.

    Example:
        >>> cosine(torch.tensor([[0.0], [1.0]]), torch.tensor([[0.0], [5.0]]))
        tensor([1.])
    """
    _check(presence, activations)
    return _cosine(presence.double(), activations.double())


def auprc(
    presence: Float[Tensor, "N U"], activations: Float[Tensor, "N U"], share: float = ACTIVE
) -> Float[Tensor, "U"]:
    """Compute the area under the precision-recall curve of predicting a unit's active images by presence.

    Average precision: equal presences form one step, so that a constant label scores the share of active
    images, whatever their order.

    Args:
        presence: As `correlation`.
        activations: As `correlation`.
        share: The share of images, those of the largest activations, that count as active.

    Example:
        >>> auprc(torch.tensor([[1.0], [0.0]]), torch.tensor([[2.0], [1.0]]), share=0.5)
        tensor([1.])
    """
    _check(presence, activations)
    positive = active_images(activations, share)
    columns = range(presence.shape[1])
    return torch.tensor([_average_precision(presence[:, u], positive[:, u]) for u in columns])


def f1_iou(
    presence: Float[Tensor, "N U"], activations: Float[Tensor, "N U"], share: float = ACTIVE
) -> tuple[Float[Tensor, "U"], Float[Tensor, "U"]]:
    """Compute F1 and intersection over union of the images with a label and its unit's active images.

    Args:
        presence: As `correlation`; a label is present from 0.5 on.
        activations: As `correlation`.
        share: As `auprc`.

    Example:
        >>> f1_iou(torch.tensor([[1.0], [1.0], [0.0]]), torch.tensor([[2.0], [1.0], [0.0]]), share=1 / 3)
        (tensor([0.6667]), tensor([0.5000]))
    """
    _check(presence, activations)
    there, positive = presence >= 0.5, active_images(activations, share)
    both, either = (there & positive).sum(dim=0), (there | positive).sum(dim=0)
    sizes = there.sum(dim=0) + positive.sum(dim=0)
    return 2 * both / sizes.clamp_min(1), both / either.clamp_min(1)


def active_images(activations: Float[Tensor, "N U"], share: float = ACTIVE) -> Bool[Tensor, "N U"]:
    """Mark the images of each unit's largest activations; at least one.

    Raises:
        ValueError: If the share is not above 0 and up to 1.
    """
    if not 0 < share <= 1:
        raise ValueError(f"share={share}; pass a number above 0 and up to 1.")
    count = max(1, round(share * len(activations)))
    return activations >= activations.topk(count, dim=0).values[-1]


def cosy_auc(made: Float[Tensor, "Q U"], control: Float[Tensor, "N U"]) -> Float[Tensor, "U"]:
    """Compute the area under the ROC curve of a unit's activation, for images of its label against controls.

    CoSy's AUC (Kopf et al., 2024); equal activations count half.

    Args:
        made: Each unit's activation in images generated for its label.
        control: Each unit's activation in control images.

    Example:
        >>> cosy_auc(torch.tensor([[2.0], [3.0]]), torch.tensor([[1.0], [2.0]]))
        tensor([0.8750])
    """
    found = []
    for unit in range(made.shape[1]):
        ordered = control[:, unit].contiguous().sort().values
        below = torch.searchsorted(ordered, made[:, unit].contiguous())
        upto = torch.searchsorted(ordered, made[:, unit].contiguous(), right=True)
        found.append(((below + upto) / 2 / len(ordered)).mean())
    return torch.stack(found)


def cosy_mad(made: Float[Tensor, "Q U"], control: Float[Tensor, "N U"]) -> Float[Tensor, "U"]:
    """Compute the mean increase of a unit's activation on its label's images, in the controls' deviations.

    CoSy's MAD (Kopf et al., 2024); 0 if the unit does not vary in the controls.

    Args:
        made: As `cosy_auc`.
        control: As `cosy_auc`.

    Example:
        >>> cosy_mad(torch.tensor([[2.0], [4.0]]), torch.tensor([[0.0], [2.0]]))
        tensor([2.])
    """
    deviation = control.std(dim=0, unbiased=False)
    found = (made.mean(dim=0) - control.mean(dim=0)) / deviation.clamp_min(1e-12)
    return torch.where(deviation > 0, found, 0.0)


def _cosine(a: Tensor, b: Tensor) -> Float[Tensor, "U"]:
    scale = a.norm(dim=0) * b.norm(dim=0)
    return torch.where(scale > 1e-12, (a * b).sum(dim=0) / scale.clamp_min(1e-12), 0.0).float()


def _average_precision(scores: Float[Tensor, "N"], positive: Bool[Tensor, "N"]) -> float:
    ordered, order = scores.sort(descending=True, stable=True)
    hits = positive[order].double().cumsum(0)
    last = torch.cat([ordered[1:] != ordered[:-1], torch.tensor([True])])  # the end of each step
    recall = hits[last] / hits[-1]
    precision = hits[last] / (last.nonzero().flatten() + 1)
    gained = recall - torch.cat([recall.new_zeros(1), recall[:-1]])
    return float((gained * precision).sum())


def _check(presence: Tensor, activations: Tensor) -> None:
    if presence.shape != activations.shape or len(presence) < 2:
        raise ValueError(
            f"presence {tuple(presence.shape)} and activations {tuple(activations.shape)}; pass both as "
            "(images, units), of two images or more."
        )
