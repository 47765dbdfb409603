"""Calibration of the posterior without labels, by captions or by the classifier's own softmax."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor

from torchnle.methods.aligned.regression.kernel_ridge import KernelRidge
from torchnle.methods.aligned.text_features.text_map import TextMap

_TEMPERATURES = tuple(2 ** (step / 4) for step in range(8, 33))  # 4 to 256
#: Into how many folds phrases are parted.
FOLDS = 5
_OFFSETS = tuple(step / 100 for step in range(61))


@torch.no_grad()
def calibrate_by_head(fitted: TextMap, pooled_distance: float) -> None:
    """Set the temperature of a map's softmax to the head's own scale, and mix the two softmaxes evenly.

    The head's logits are products of whitened features with class prototypes; cosines times the prototypes'
    mean norm and the features' mean distance from the center are on the same scale.

    Args:
        fitted: A map that was fitted to class names.
        pooled_distance: The mean norm of centered, whitened pooled features.
    """
    fitted.temperature.fill_(float(fitted.class_norms.mean()) * pooled_distance)
    fitted.head_share.fill_(0.5)


@torch.no_grad()
def calibrate_by_captions(fitted: TextMap, pooled: Float[Tensor, "R D"], named: Bool[Tensor, "R P"]) -> None:
    """Set the temperature of a map's softmax to the one of largest likelihood of the captions' phrases.

    The head's softmax gets weight 0, since captions give no labels for its classes.

    Args:
        fitted: A map that was fitted to captions.
        pooled: Pooled features of captioned pictures.
        named: Which of the map's phrases each caption names.
    """
    white = fitted.whiten(pooled)
    count = fitted.phrases
    directions = fitted.directions(fitted.texts)
    cosines = F.normalize(white, dim=1) @ directions.T
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
    fitted: TextMap, pooled: Float[Tensor, "R D"], named: Bool[Tensor, "R P"], folds: int = FOLDS
) -> float:
    """Choose the offset that is subtracted from the cosines of fitted phrases.

    This is calibration for generalised zero-shot learning.

    Fitted phrases are nearer to every feature than other texts. Fold by fold, phrases are treated as unseen,
    with the directions predicted by the fit without their fold, and compete with the fitted phrases of the
    other folds. The offset maximises the harmonic mean of the rates at which phrases of both kinds rank
    first.

    Args:
        fitted: The map, a kernel ridge regression.
        pooled: Pooled features of pictures, preferably not those of the fit.
        named: Which phrases each picture shows.
        folds: The number of folds.

    Returns:
        The offset; 0 if there are fewer than two phrases or no picture shows one.
    """
    count = named.shape[1]
    if count < 2 or not named.any() or not isinstance(fitted.regression, KernelRidge):
        return 0.0
    fold = torch.arange(count, device=named.device) % folds
    unit = F.normalize(fitted.whiten(pooled), dim=1)
    own = unit @ fitted.directions(fitted.texts[:count]).T
    new = unit @ F.normalize(fitted.regression.left_out(fold), dim=1).T
    lost, won = [], []  # where a fitted phrase stops coming first, and an unseen one begins to
    for each in torch.unique(fold):
        out = fold == each
        seen, unseen, on_seen, on_unseen = own[:, ~out], new[:, out], named[:, ~out], named[:, out]
        best_seen, best_unseen = _best_other(seen, on_seen), _best_other(unseen, on_unseen)
        lost.append((seen - best_unseen).masked_fill(seen <= best_seen, -torch.inf)[on_seen])
        won.append((best_seen - unseen).masked_fill(unseen <= best_unseen, torch.inf)[on_unseen])
    lost_at, won_at = torch.cat(lost), torch.cat(won)

    def harmonic(offset: float) -> float:
        seen, unseen = (lost_at > offset).float().mean(), (won_at < offset).float().mean()
        return float(2 * seen * unseen / (seen + unseen).clamp(min=1e-9))

    return max(_OFFSETS, key=harmonic)


def _best_other(cosines: Float[Tensor, "R P"], named: Bool[Tensor, "R P"]) -> Float[Tensor, "R 1"]:
    return cosines.masked_fill(named, -torch.inf).amax(dim=1, keepdim=True)


def marks(named: Sequence[Sequence[str]], phrases: Sequence[str]) -> Bool[Tensor, "R P"]:
    """Build the mask of which phrases each caption names.

    Args:
        named: The phrases of each caption.
        phrases: All phrases, in the order of the columns.
    """
    column = {phrase: index for index, phrase in enumerate(phrases)}
    found = torch.zeros(len(named), len(phrases), dtype=torch.bool)
    for row, listed in enumerate(named):
        found[row, [column[phrase] for phrase in listed if phrase in column]] = True
    return found
