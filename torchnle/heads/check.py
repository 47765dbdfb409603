"""Check a found head: recompute the model's logits from it, on images that the search has not used."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from torchnle.heads.trace import difference, first_answer
from torchnle.vision.features import Features
from torchnle.vision.reading import Reading, read_with_output
from torchnle.vision.taps import Tap

#: The largest difference of recomputed logits, relative to the largest logit: in float32, and in coarser
#: dtypes as a multiple of their resolution.
_MOST, _COARSE = 1e-3, 2.0
#: Also relative to the change of the logits from image to image: a constant part agrees with any head.
_MOST_OF_SPREAD = 0.1


@dataclass(frozen=True)
class Comparison:
    """The errors of recomputed logits, relative to the model's own.

    Args:
        error: The largest difference, relative to the model's largest logit.
        of_spread: The largest difference, relative to the largest change of the model's logits over images.
        tolerance: The relative resolution of the dtype.
        grid: (rows, columns) of the layer that was read, or None.
    """

    error: float
    of_spread: float
    tolerance: float
    grid: tuple[int, int] | None = None

    @property
    def agree(self) -> bool:
        """True if the recomputed logits equal the model's, up to rounding."""
        if self.error <= self.tolerance:
            return True
        return self.error <= max(_MOST, _COARSE * self.tolerance) and self.of_spread <= _MOST_OF_SPREAD


def compare(
    model: nn.Module,
    tap: Tap,
    reading: Reading,
    logits: Callable[[Features], Tensor],
    example: Tensor,
    tolerance: float,
    answer: Callable[[Any, str], Tensor] | None = None,
) -> Comparison:
    """Compare recomputed logits with a model's own, on one image of the example and one of noise.

    Args:
        model: The classifier.
        tap: The layer to read.
        reading: How to read it.
        logits: Computes (N, classes) from its features.
        example: A few images, as the model takes them.
        tolerance: The relative resolution of the dtype.
        answer: Selects the logits in the model's output; None = its `logits`, or its first tensor.

    Raises:
        ValueError: If the layer cannot be read by `reading`.

    Example:
        >>> model, images = nn.Sequential(nn.Flatten(), nn.Linear(2, 2)), torch.rand(1, 2, 1, 1)
        >>> tap, doubled = Tap("1", model[1], "input"), lambda features: 2 * model[1](features.rows)
        >>> found = compare(model, tap, Reading(), doubled, images, tolerance=0.0)
        >>> found.agree, round(found.error, 3)
        (False, 1.0)
    """
    shown = torch.cat([example[:1], noise_like(example[:1], bright=True)])
    with torch.no_grad():
        (features,), output = read_with_output(model, [tap], shown, None, reading)
        kind = type(model).__name__
        own = (answer or first_answer(output, kind))(output, kind).float()
        own, given = own.flatten(2).mean(2) if own.ndim > 2 else own, logits(features).float()
    if given.shape != own.shape:
        return Comparison(float("inf"), float("inf"), tolerance, features.grid)
    apart = (own - own.flip(0)).abs().max().clamp_min(torch.finfo(own.dtype).tiny)
    spread = float((given - own).abs().max() / apart)
    return Comparison(difference(given, own), spread, tolerance, features.grid)


def varied(example: Tensor) -> Tensor:
    """Replace the last image of an example by noise, or append noise to a single image, so that no two agree.

    Example:
        >>> varied(torch.rand(1, 3, 4, 4)).shape, varied(torch.rand(3, 3, 4, 4)).shape
        (torch.Size([2, 3, 4, 4]), torch.Size([3, 3, 4, 4]))
    """
    kept = example if len(example) == 1 else example[:-1]
    return torch.cat([kept, noise_like(example[-1:])])


def noise_like(images: Tensor, *, bright: bool = False) -> Tensor:
    """Draw seeded noise within the range of some images, darker or brighter than its middle.

    Example:
        >>> noise = noise_like(torch.tensor([[[[0.0, 2.0], [1.0, 1.0]]]]))
        >>> noise.shape, bool((0 <= noise).all() and (noise <= 2).all())
        (torch.Size([1, 1, 2, 2]), True)
    """
    values = images.detach().float()
    low, high = values.min(), values.max()
    source = torch.Generator("cpu").manual_seed(int(bright))
    dark = torch.rand(images.shape, generator=source, device="cpu").to(values).square()
    noise = 1 - dark if bright else dark
    return (low + (high - low) * noise if high > low else noise).to(images)
