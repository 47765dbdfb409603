"""The evidence of a prediction: the channels and locations that contribute most to its logit."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from torchnle.methods.aligned.text_features.text_map import TextMap
from torchnle.methods.zero_shot.classes import class_directions

#: The share of the channels that is kept as evidence: 64 of 1,280, chosen on two-object scenes of two seeds;
#: the other object is then hardly ever among its words (`python -m measurements.zero_shot.scenes`).
KEPT = 0.05
#: How far the mean of the locations may lie from what the head reads, as a share of its length; or as far as
#: its number format rounds.
_SAME = 1e-3


@dataclass(frozen=True)
class Evidence:
    """The evidence for a class in each feature: the channels that contribute most to its logit.

    Args:
        vector: `whole`, zero except in the kept channels, (R, D).
        whole: The whitened features, averaged as in `deciding_features` if locations were given, (R, D).
        decision: The sum of all channels' contributions, (R,): the class's logit minus the mean class's, or
            the difference of two classes' logits.
        share: The share of `decision` in the kept channels, (R,); above one if the others' sum is negative.
    """

    vector: Float[Tensor, "R D"]
    whole: Float[Tensor, "R D"]
    decision: Float[Tensor, "R"]
    share: Float[Tensor, "R"]


def directions_for(
    fitted: TextMap, classes: Int[Tensor, "R"], rather_than: Int[Tensor, "R"] | None = None
) -> Float[Tensor, "R D"]:
    """Compute the gradient of a class's logit with respect to the whitened feature.

    Args:
        fitted: The map of the head's layer.
        classes: One class per row.
        rather_than: Other classes, whose logits are subtracted; -1 = none.
    """
    directions = class_directions(fitted)
    chosen = directions[classes]
    if rather_than is None:
        return chosen
    return chosen - directions[rather_than.clamp(min=0)] * (rather_than >= 0)[:, None]


def evidence(
    fitted: TextMap,
    rows: Float[Tensor, "R D"],
    classes: Int[Tensor, "R"],
    rather_than: Int[Tensor, "R"] | None = None,
    *,
    kept: float = KEPT,
    locations: Float[Tensor, "R L D"] | None = None,
) -> Evidence:
    """Keep the channels, and the locations, that contribute most to a class's logit.

    The contribution of a channel is its product with the class's direction: for a linear head these are the
    integrated gradients from the center of the pictures that are read (Sundararajan et al., 2017), exactly.

    Args:
        fitted: The map of the head's layer.
        rows: What the head reads.
        classes: One class per row.
        rather_than: The class that each is contrasted with; None, or -1 = the mean of all.
        kept: The share of channels to keep; those with negative contributions are zero in any case.
        locations: The features whose mean each row is. They are then averaged with weights by their
            contributions (`deciding_features`), so that other parts of the picture are no evidence. Rows that
            are not their mean (behind a norm, or of a class token) are used as they are.

    Returns:
        The evidence of each row.

    Raises:
        ValueError: If `kept` is not above 0 and at most 1.
    """
    if not 0 < kept <= 1:
        raise ValueError(f"kept={kept}; pass the share of the channels to keep, above 0 and at most 1.")
    directions = directions_for(fitted, classes, rather_than)
    white = fitted.whiten(rows)
    read = (
        white if locations is None else fitted.whiten(deciding_features(fitted, rows, locations, directions))
    )
    best = (read * directions).topk(max(1, round(kept * white.shape[1])), dim=1)
    mask = torch.zeros_like(white).scatter(1, best.indices, (best.values > 0).to(white))
    contributions = white * directions
    decision = contributions.sum(dim=1)
    tiny = torch.finfo(decision.dtype).tiny
    share = (contributions * mask).sum(dim=1) / torch.where(decision.abs() < tiny, tiny, decision)
    return Evidence(read * mask, read, decision, share)


def deciding_features(
    fitted: TextMap,
    rows: Float[Tensor, "R D"],
    locations: Float[Tensor, "R L D"],
    directions: Float[Tensor, "R D"],
) -> Float[Tensor, "R D"]:
    """Average locations with weights: the squares of their positive contributions to a logit.

    Locations of other objects often have small positive contributions. Squares suppress these as a threshold
    at half of the maximum does, without a threshold.

    Args:
        fitted: The map of the head's layer.
        rows: What the head reads, which is returned if it is not the mean of the locations.
        locations: The features of every location.
        directions: The gradient of each row's logit (`directions_for`).
    """
    return weighted_mean(rows, locations, _along(fitted, locations, directions).clamp(min=0).square())


def weighted_mean(
    rows: Float[Tensor, "R D"], locations: Float[Tensor, "R L D"], weights: Float[Tensor, "R L"]
) -> Float[Tensor, "R D"]:
    """Average locations with weights, where their mean is what the head reads; elsewhere return that.

    Args:
        rows: What the head reads.
        locations: The features of every location.
        weights: Not negative; all zero = what the head reads.
    """
    weights = weights.float()
    total = weights.sum(dim=1, keepdim=True)
    shares = weights / torch.where(total > 0, total, 1.0)
    found = torch.einsum("rl,rld->rd", shares, locations.float())
    same, whole = max(_SAME, torch.finfo(rows.dtype).eps), rows.float()
    far = (locations.float().mean(dim=1) - whole).norm(dim=1) > same * whole.norm(dim=1)
    return torch.where((far | (total[:, 0] <= 0))[:, None], whole, found)


def location_contributions(
    fitted: TextMap,
    locations: Float[Tensor, "N L D"],
    classes: Int[Tensor, "N"],
    rather_than: Int[Tensor, "N"] | None = None,
) -> Float[Tensor, "N L"]:
    """Compute the contribution of each location to a class's logit.

    With mean pooling directly before the head, their sum is `Evidence.decision` of the pooled feature. With a
    norm in between, or a class token, it is the decision of each location's feature alone.

    Args:
        fitted: The map of the head's layer.
        locations: The features of every location as the head would read them.
        classes: One class per image.
        rather_than: As `evidence`.
    """
    return _along(fitted, locations, directions_for(fitted, classes, rather_than)) / locations.shape[1]


def _along(
    fitted: TextMap, locations: Float[Tensor, "N L D"], directions: Float[Tensor, "N D"]
) -> Float[Tensor, "N L"]:
    images, count, width = locations.shape
    white = fitted.whiten(locations.reshape(-1, width)).view(images, count, width)
    return torch.einsum("nld,nd->nl", white, directions)
