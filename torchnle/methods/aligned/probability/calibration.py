"""The constants of the posterior, from what is known without labels: captions, or the classifier itself."""

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
    fitted: TextMap, pooled: Float[Tensor, "R D"], named: Bool[Tensor, "R P"], folds: int = FOLDS
) -> float:
    """Choose what is taken off the cosines of phrases that were fitted, which lie nearer to every feature.

    Fold by fold, phrases are taken for texts that the fit has not seen, with the directions that they have by
    the fit without their fold, and compete with the phrases of the other folds, as these were fitted. The
    offset makes the harmonic mean of the rates at which phrases of both kinds come first the largest
    (generalised zero-shot learning).

    Args:
        fitted: The map, a kernel ridge regression.
        pooled: Pooled features of pictures, better such as the fit has not seen.
        named: Which phrases are on each.
        folds: How many.

    Returns:
        The offset; 0 where there are fewer than two phrases or none is on a picture.
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
    """Mark which phrases each caption names."""
    column = {phrase: index for index, phrase in enumerate(phrases)}
    found = torch.zeros(len(named), len(phrases), dtype=torch.bool)
    for row, listed in enumerate(named):
        found[row, [column[phrase] for phrase in listed if phrase in column]] = True
    return found
