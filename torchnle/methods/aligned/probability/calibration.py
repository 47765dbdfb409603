"""The constants of the posterior, from what is known without labels: captions, or the classifier itself."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from torchnle.methods.aligned.text_features.text_map import TextMap

_TEMPERATURES = tuple(2 ** (step / 4) for step in range(8, 33))  # 4 to 256
_OFFSETS = tuple(step / 100 for step in range(61))


@torch.no_grad()
def calibrate_by_head(fitted: TextMap, pooled_distance: float) -> None:
    """Make the softmax of cosines as sharp as the head's own, and mix the two evenly.

    The head's logits are products of whitened features with class prototypes that have a norm; cosines times
    the mean of those norms and the features' mean distance from the center are on the same scale.

    Args:
        fitted: A map that was fitted to class names.
        pooled_distance: The mean norm of centered, whitened pooled features.
    """
    fitted.temperature.fill_(float(fitted.class_norms.mean()) * pooled_distance)
    fitted.head_share.fill_(0.5)


@torch.no_grad()
def calibrate_by_captions(fitted: TextMap, pooled: Float[Tensor, "R D"], named: Bool[Tensor, "R P"]) -> None:
    """Choose the temperature by the likelihood of the phrases that captions name.

    The head has no share: a caption says nothing of its classes.

    Args:
        fitted: A map that was fitted to captions.
        pooled: Pooled features of captioned pictures.
        named: Which of the map's phrases each caption names.
    """
    white = fitted.whiten(pooled)
    count = fitted.phrases
    known = fitted.directions(fitted.texts)
    cosines = F.normalize(white, dim=1) @ known.T
    best = max(
        _TEMPERATURES,
        key=lambda t: float(
            ((t * cosines).softmax(dim=1)[:, :count] * named).sum(dim=1).clamp(min=1e-12).log().mean()
        ),
    )
    fitted.temperature.fill_(best)
    fitted.head_share.fill_(0.0)


@torch.no_grad()
def choose_offset(
    fitted: TextMap,
    left_out: Float[Tensor, "P D"],
    pooled: Float[Tensor, "R D"],
    named: Bool[Tensor, "R P"],
) -> float:
    """Choose what is taken off the cosines of phrases that were fitted, which lie nearer to every feature.

    Each phrase is once named as one that was fitted, and once, as one that was not, by the direction that it
    has when it is left out; the offset makes the harmonic mean of both rates the largest (generalised
    zero-shot learning).

    Args:
        fitted: The map.
        left_out: Each phrase's prediction by the fit without it (`KernelRidge.left_out`).
        pooled: Pooled features of pictures.
        named: Which phrases are on each.
    """
    unit = F.normalize(fitted.whiten(pooled), dim=1)
    own = unit @ fitted.directions(fitted.texts[: named.shape[1]]).T
    without = unit @ F.normalize(left_out, dim=1).T
    if not named.any():
        return 0.0
    others = own.masked_fill(named, -torch.inf).amax(dim=1, keepdim=True)
    strangers = without.masked_fill(named, -torch.inf).amax(dim=1, keepdim=True)

    def harmonic(offset: float) -> float:
        seen = ((own > others) & (own - offset > strangers))[named].float().mean()
        unseen = ((without > others - offset) & (without > strangers))[named].float().mean()
        return float(2 * seen * unseen / (seen + unseen).clamp(min=1e-9))

    return max(_OFFSETS, key=harmonic)


def marks(named: Sequence[Sequence[str]], phrases: Sequence[str]) -> Bool[Tensor, "R P"]:
    """Mark which phrases each caption names."""
    column = {phrase: index for index, phrase in enumerate(phrases)}
    found = torch.zeros(len(named), len(phrases), dtype=torch.bool)
    for row, listed in enumerate(named):
        found[row, [column[phrase] for phrase in listed if phrase in column]] = True
    return found
