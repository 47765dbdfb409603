"""The background challenge: a classifier's predictions when objects are hidden, on images with masks."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from torchnle.public_calls import checked
from torchnle.vision.outputs import logits_of
from torchnle.vision.running import forward

if TYPE_CHECKING:
    from torchnle.methods.texplain.audit.challenge import Challenge


@checked
@torch.no_grad()
def background_challenge(model: Any, batches: Iterable[tuple[Tensor, Tensor, Tensor]]) -> Challenge:
    """Compare a classifier's predictions with and without the objects (TExplain, section 4.1).

    Each object's box is covered with tiles of the background beside it ("Only-BG-T" of the background
    challenge). A prediction that stays right was based on the background.

    Args:
        model: The classifier, whose output is a logit per class.
        batches: (images, masks, labels): images as the model takes them, (N, C, H, W); the objects' pixels,
            (N, H, W), booleans; (N,) class indices.

    Returns:
        A `Challenge`: accuracies with and without objects, and the five likeliest classes of every image.

    Raises:
        ValueError: If there are no images, a mask is empty or of another size, or an object fills its image.

    Example:
        >>> found = background_challenge(model, loader)  # doctest: +SKIP
        >>> found.accuracy, found.only_background, found.same_answer  # doctest: +SKIP
        (0.96, 0.41, 0.52)
    """
    from torchnle.methods.texplain.audit.challenge import challenge, hide_objects

    seen: list[Tensor] = []
    hidden: list[Tensor] = []
    labels = []
    for x, masks, y in batches:
        for images, logits in ((x, seen), (hide_objects(x, masks), hidden)):
            logits.append(logits_of(forward(model, images), "the model").float().cpu())
        labels.append(y.cpu())
    if not seen:
        raise ValueError("there are no images; pass batches of (images, masks, labels).")
    return challenge(torch.cat(seen), torch.cat(hidden), torch.cat(labels))
