"""The posterior probability of each phrase given a feature."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle.methods.aligned.probability.candidates import Candidates
from torchnle.methods.aligned.text_features.text_map import TextMap


def posterior(
    fitted: TextMap,
    rows: Float[Tensor, "R D"],
    candidates: Candidates,
    *,
    local: bool,
) -> tuple[Float[Tensor, "R P"], Float[Tensor, "R"]]:
    """Estimate the probability of each phrase given each feature, and of none of them.

    A mixture of two estimates: a softmax over the cosines of the whitened feature with all phrases and with
    the features of contentless pictures (noise, constants), which stand for "none of these"; and the
    classifier's own softmax.

    Args:
        fitted: The map.
        rows: The features.
        candidates: The phrases.
        local: Whether rows are single locations, which are rescaled to the norm of pooled features.

    Returns:
        The probabilities of the phrases (R, P) and of none of them (R,), which sum to one per row.
    """
    scaled = fitted.scaled(rows) if local else rows.float()
    white = fitted.whiten(scaled)
    unit, nulls = (F.normalize(white, dim=1) for white in (white, fitted.whiten(fitted.nulls)))
    cosines = unit @ candidates.directions.T
    if candidates.fitted is not None:
        cosines = cosines - fitted.offset * candidates.fitted
    shares = (fitted.temperature * torch.cat([cosines, unit @ nulls.T], dim=1)).softmax(dim=1)
    count = len(candidates.directions)
    phrases, none = shares[:, :count], shares[:, count:].sum(dim=1)
    if len(candidates.classes) and fitted.head_share > 0:
        head = fitted.head_logits(white).softmax(dim=1) * (1 - none[:, None])
        phrases = (1 - fitted.head_share) * phrases
        phrases = phrases.index_add(1, candidates.classes, fitted.head_share * head)
    return phrases, none
