"""Insertion and deletion (RISE: Petsiuk et al. 2018, section 4.1), the faithfulness of a map to the model."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from torchnle.vision.outputs import logits_of
from torchnle.vision.running import forward

#: Computes the replacement of pixels, (N, C, H, W), from the images.
Substrate: TypeAlias = Callable[[Tensor], Tensor]

_KERNEL, _SIGMA = 11, 5.0  # RISE's blur, in pixels
_STEPS = 28  # RISE on many images: 1,792 of 224 x 224 pixels a step


@dataclass(frozen=True)
class Curves:
    """The probability of each image's target as pixels are changed, most salient first.

    Args:
        values: Softmax probabilities, (images N, steps + 1).
        shares: The share of pixels changed at each step, (steps + 1,), from 0 to 1.

    Example:
        >>> Curves(torch.tensor([[1.0, 0.5, 0.0]]), torch.tensor([0.0, 0.5, 1.0])).areas
        tensor([0.5000])
    """

    values: Float[Tensor, "N S"]
    shares: Float[Tensor, "S"]

    @property
    def areas(self) -> Float[Tensor, "N"]:
        """The area under each curve, by trapezoids: RISE's score."""
        return torch.trapezoid(self.values, self.shares)

    @property
    def mean(self) -> Float[Tensor, "S"]:
        """The mean curve; its area is the mean of the areas."""
        return self.values.mean(dim=0)


def deletion(
    model: Callable[..., Any],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    *,
    substrate: Substrate | None = None,
    steps: int = _STEPS,
    batch_size: int = 32,
) -> Curves:
    """Remove pixels from the images, most salient first; a faithful map's curve falls early.

    Args:
        model: Images (N, C, H, W) -> logits (N, classes).
        images: The images as the model takes them.
        maps: Raw scores, (N, H, W); ties are removed from left to right and down.
        targets: The class of each image whose probability is recorded, (N,), int64.
        substrate: The replacement of pixels; None = zeros, the mean gray of an input normalised to mean 0.
        steps: The number of equal parts in which pixels are removed.
        batch_size: The largest number of images in the model at once.

    Returns:
        The curves; the first value is the whole image's, the last the substrate's.

    Raises:
        ValueError: If shapes do not fit, a value is not finite, or `steps` or `batch_size` is not positive.

    Example:
        >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)), -x.mean((1, 2, 3))], dim=1)
        >>> image = torch.tensor([[[[9.0, 0.0], [0.0, 0.0]]]])
        >>> curves = deletion(brightness, image, image[:, 0], torch.tensor([0]), steps=2)
        >>> [round(value, 3) for value in curves.values[0].tolist()]
        [0.989, 0.5, 0.5]
    """
    _check(images, maps, targets, steps, batch_size)
    ground = torch.zeros_like(images) if substrate is None else substrate(images)
    return _curves(model, images, ground, maps, targets, steps, batch_size)


def insertion(
    model: Callable[..., Any],
    images: Tensor,
    maps: Tensor,
    targets: Tensor,
    *,
    substrate: Substrate | None = None,
    steps: int = _STEPS,
    batch_size: int = 32,
) -> Curves:
    """Insert pixels into a blurred image, most salient first; a faithful map's curve rises early.

    Args:
        model: Images (N, C, H, W) -> logits (N, classes).
        images: The images as the model takes them.
        maps: Raw scores, (N, H, W); ties are inserted from left to right and down.
        targets: The class of each image whose probability is recorded, (N,), int64.
        substrate: The starting images; None = `blur`.
        steps: The number of equal parts in which pixels are inserted.
        batch_size: The largest number of images in the model at once.

    Returns:
        The curves; the first value is the substrate's, the last the whole image's.

    Raises:
        ValueError: As `deletion`.

    Example:
        >>> brightness = lambda x: torch.stack([x.mean((1, 2, 3)), -x.mean((1, 2, 3))], dim=1)
        >>> image = torch.tensor([[[[9.0, 0.0], [0.0, 0.0]]]])
        >>> curves = insertion(
        ...     brightness, image, image[:, 0], torch.tensor([0]), substrate=torch.zeros_like, steps=2
        ... )
        >>> [round(value, 3) for value in curves.values[0].tolist()]
        [0.5, 0.989, 0.989]
    """
    _check(images, maps, targets, steps, batch_size)
    ground = blur(images) if substrate is None else substrate(images)
    return _curves(model, ground, images, maps, targets, steps, batch_size)


def blur(images: Float[Tensor, "N C H W"]) -> Float[Tensor, "N C H W"]:
    """Blur by a Gaussian of 5 pixels cut to 11 x 11, as RISE does, with zero padding.

    Example:
        >>> round(blur(torch.ones(1, 1, 32, 32))[0, 0, 16, 16].item(), 4)
        1.0
    """
    offsets = torch.arange(_KERNEL, device=images.device, dtype=images.dtype) - _KERNEL // 2
    line = torch.exp(-offsets.square() / (2 * _SIGMA**2))
    line = (line / line.sum()).expand(images.shape[1], 1, 1, -1)
    rows = F.conv2d(images, line, padding=(0, _KERNEL // 2), groups=images.shape[1])
    return F.conv2d(rows, line.transpose(2, 3), padding=(_KERNEL // 2, 0), groups=images.shape[1])


@torch.no_grad()
def _curves(
    model: Callable[..., Any],
    start: Float[Tensor, "N C H W"],
    end: Float[Tensor, "N C H W"],
    maps: Float[Tensor, "N H W"],
    targets: Int[Tensor, "N"],
    steps: int,
    batch_size: int,
) -> Curves:
    """Compute the probabilities along the path from one set of images to the other."""
    pixels = maps[0].numel()
    counts = torch.linspace(0, pixels, steps + 1, device=maps.device).round().long()
    ranks = _ranks(maps)
    points = torch.cartesian_prod(
        torch.arange(len(maps), device=maps.device), torch.arange(steps + 1, device=maps.device)
    )
    found = []
    for part in torch.split(points, batch_size):
        image, step = part[:, 0], part[:, 1]
        changed = (ranks[image] < counts[step, None, None])[:, None]
        output = forward(model, torch.where(changed, end[image], start[image]))
        logits = logits_of(output, "the model")
        found.append(logits.softmax(dim=1).gather(1, targets[image, None])[:, 0])
    return Curves(torch.cat(found).view(len(maps), steps + 1).float(), counts / pixels)


def _ranks(maps: Float[Tensor, "N H W"]) -> Int[Tensor, "N H W"]:
    """Rank pixels by falling saliency."""
    order = maps.flatten(1).argsort(dim=1, descending=True, stable=True)
    return order.argsort(dim=1).view(maps.shape)


def _check(images: Tensor, maps: Tensor, targets: Tensor, steps: int, batch_size: int) -> None:
    fits = images.ndim == 4 and len(images) and maps.shape == (len(images), *images.shape[2:])
    if not fits or targets.shape != (len(images),) or targets.dtype != torch.int64:
        raise ValueError(
            f"images {tuple(images.shape)}, maps {tuple(maps.shape)} and targets {tuple(targets.shape)} "
            f"{targets.dtype} do not fit; pass (N, C, H, W), (N, H, W) and (N,) int64. Enlarge maps with "
            "interpolate first."
        )
    if steps < 1 or batch_size < 1:
        raise ValueError(f"steps={steps}, batch_size={batch_size}; pass positive numbers.")
    if not torch.isfinite(maps).all():
        raise ValueError("a map holds NaN or infinite values.")
