"""The background challenge: a classifier's predictions when the object is hidden (section 4.1)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


@dataclass(frozen=True)
class Challenge:
    """A classifier's accuracies and predictions with and without the objects.

    Args:
        accuracy: The accuracy with the objects.
        only_background: The accuracy without: above chance if the background predicts the class.
        same_answer: The share of images whose prediction does not change.
        top: The five most probable classes of every image with their probabilities, with the object, (N, 5).
        top_background: The same without the object.
    """

    accuracy: float
    only_background: float
    same_answer: float
    top: tuple[Int[Tensor, "N k"], Float[Tensor, "N k"]]
    top_background: tuple[Int[Tensor, "N k"], Float[Tensor, "N k"]]


def challenge(
    logits: Float[Tensor, "N C"], without: Float[Tensor, "N C"], labels: Int[Tensor, "N"]
) -> Challenge:
    """Compare a classifier's predictions for images and for the same images without their objects.

    Args:
        logits: The logits of the images.
        without: The logits of the images after `hide_objects`.
        labels: The classes.

    Raises:
        ValueError: If the numbers differ, or there are no images.

    Example:
        >>> found = challenge(torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
        >>> found.accuracy, found.only_background, found.same_answer
        (1.0, 0.5, 0.5)
    """
    if logits.shape != without.shape or len(labels) != len(logits) or not len(labels):
        raise ValueError(
            f"logits of {tuple(logits.shape)} and {tuple(without.shape)} with {len(labels)} labels; pass "
            f"both of the "
            "same images, and a label each."
        )
    seen, hidden = logits.argmax(dim=1), without.argmax(dim=1)
    tops = []
    for each in (logits, without):
        best = each.softmax(dim=1).topk(min(5, each.shape[1]), dim=1)
        tops.append((best.indices, best.values))
    return Challenge(
        float((seen == labels).float().mean()),
        float((hidden == labels).float().mean()),
        float((seen == hidden).float().mean()),
        tops[0],
        tops[1],
    )


def hide_objects(images: Float[Tensor, "N C H W"], masks: Bool[Tensor, "M r c"]) -> Float[Tensor, "N C H W"]:
    """Cover each object's box with tiles of the widest strip beside it ("Only-BG-T").

    Args:
        images: As the model takes them.
        masks: The objects' pixels.

    Returns:
        The changed copies of the images.

    Raises:
        ValueError: If masks are of another size than the images, one is empty, or an object's box fills its
            image.

    Example:
        >>> image = torch.arange(4.0).repeat(4, 1)[None, None]
        >>> mask = torch.zeros(1, 4, 4, dtype=torch.bool)
        >>> mask[:, 1:3, 2:] = True
        >>> hide_objects(image, mask)[0, 0, 1].tolist()
        [0.0, 1.0, 0.0, 1.0]
    """
    if masks.shape != (len(images), *images.shape[2:]):
        raise ValueError(
            f"masks of {tuple(masks.shape)} for images of {tuple(images.shape)}; pass (N, H, W) of the same "
            f"size: a "
            "resized mask would leave a rim of the object."
        )
    return torch.stack([_hide(image, mask) for image, mask in zip(images, masks, strict=True)])


def _hide(image: Float[Tensor, "C H W"], mask: Bool[Tensor, "H W"]) -> Float[Tensor, "C H W"]:
    rows, columns = mask.any(dim=1).nonzero()[:, 0], mask.any(dim=0).nonzero()[:, 0]
    if not len(rows):
        raise ValueError("a mask is empty: there is no object to hide.")
    top, bottom, left, right = int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1
    strips = (image[:, :, :left], image[:, :, right:], image[:, :top], image[:, bottom:])
    strip = max(strips, key=lambda each: each.shape[1] * each.shape[2])
    if not strip.numel():
        raise ValueError("an object's box fills its image: no background is left to cover it with.")
    height, width = bottom - top, right - left
    repeats = (1, -(-height // strip.shape[1]), -(-width // strip.shape[2]))
    covered = image.clone()
    covered[:, top:bottom, left:right] = strip.repeat(repeats)[:, :height, :width]
    return covered
