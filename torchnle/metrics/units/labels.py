"""Measures of unit labels: agreement of two labellings, and of labels with their units' images."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor


def label_agreement(first: Float[Tensor, "U k"], second: Float[Tensor, "U k"]) -> float:
    """Compare two labellings of the same units: the mean cosine of a unit's two labels (A.4.3).

    Args:
        first: The embeddings of one labelling's labels.
        second: The embeddings of the other labelling's labels.

    Example:
        >>> label_agreement(torch.eye(2), torch.eye(2))
        1.0
    """
    return F.cosine_similarity(first, second, dim=1).mean().item()


def image_label_similarity(
    exemplars: Float[Tensor, "U k E"], labels: Float[Tensor, "U t"], *, pairs: int = 500, seed: int = 0
) -> float:
    """Correlate, over random pairs of units, the similarities of their exemplars and of their labels (A.8).

    Args:
        exemplars: Features of each unit's exemplars.
        labels: Embeddings of the units' labels.
        pairs: The number of random pairs of different units.
        seed: The seed of the pairs.

    Returns:
        Pearson's correlation; the paper's, with CLIP on ResNet-50's classes, is 0.4406.

    Raises:
        ValueError: If there are fewer than three units.

    Example:
        >>> draws = torch.randn(20, 1, 4, generator=torch.Generator().manual_seed(0))
        >>> round(image_label_similarity(draws, draws[:, 0]), 4)
        1.0
    """
    units = len(labels)
    if units < 3:
        raise ValueError(f"{units} units; pass three or more.")
    generator = torch.Generator().manual_seed(seed)
    one = torch.randint(units, (pairs,), generator=generator)
    other = (one + 1 + torch.randint(units - 1, (pairs,), generator=generator)) % units
    images = F.normalize(exemplars.float(), dim=2).mean(dim=1)
    texts = F.normalize(labels.float(), dim=1)
    likeness = torch.stack([(images[one] * images[other]).sum(1), (texts[one] * texts[other]).sum(1)])
    return float(torch.corrcoef(likeness)[0, 1])
