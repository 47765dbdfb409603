"""Whether the head that was found makes a model's logits again, on images that it was not found with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from torchnle.heads.trace import difference, logits_of
from torchnle.vision.features import Features
from torchnle.vision.reading import Reading, read_with_output
from torchnle.vision.taps import Tap

#: The most that logits made again may differ, relative to the largest: in float32, and in coarser dtypes as a
#: multiple of what the run itself tells apart.
_MOST, _COARSE = 1e-3, 2.0
#: And relative to how much logits differ from image to image: a constant part agrees whatever was found.
_MOST_OF_SPREAD = 0.1


@dataclass(frozen=True)
class Comparison:
    """Logits made again, beside the model's own.

    Args:
        error: The largest difference, relative to the model's largest logit.
        of_spread: The largest difference, relative to the largest change of the model's logits over images.
        tolerance: What the dtype cannot tell apart.
        grid: (rows, columns) of the layer that was read, or None.
    """

    error: float
    of_spread: float
    tolerance: float
    grid: tuple[int, int] | None = None

    @property
    def agree(self) -> bool:
        """Whether the logits are the model's."""
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
) -> Comparison:
    """Run a model once on an image of the example and one of noise, and make its logits of what is read.

    Args:
        model: The classifier.
        tap: The layer to read.
        reading: How to read it.
        logits: Makes (N, classes) of its features.
        example: A few images, as the model takes them.
        tolerance: What the dtype cannot tell apart.

    Raises:
        ValueError: If the layer cannot be read that way.

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
        own, given = logits_of(output, type(model).__name__).float(), logits(features).float()
    if given.shape != own.shape:
        return Comparison(float("inf"), float("inf"), tolerance, features.grid)
    apart = (own - own.flip(0)).abs().max().clamp_min(torch.finfo(own.dtype).tiny)
    spread = float((given - own).abs().max() / apart)
    return Comparison(difference(given, own), spread, tolerance, features.grid)


def varied(example: Tensor) -> Tensor:
    """An example with its last image made noise (or noise added to a single image): no two are alike.

    Example:
        >>> varied(torch.rand(1, 3, 4, 4)).shape, varied(torch.rand(3, 3, 4, 4)).shape
        (torch.Size([2, 3, 4, 4]), torch.Size([3, 3, 4, 4]))
    """
    kept = example if len(example) == 1 else example[:-1]
    return torch.cat([kept, noise_like(example[-1:])])


def noise_like(images: Tensor, *, bright: bool = False) -> Tensor:
    """Seeded noise within the range of some images, darker or brighter than the middle of it.

    Example:
        >>> noise = noise_like(torch.tensor([[[[0.0, 2.0], [1.0, 1.0]]]]))
        >>> noise.shape, bool((0 <= noise).all() and (noise <= 2).all())
        (torch.Size([1, 1, 2, 2]), True)
    """
    values = images.detach().float()
    low, high = values.min(), values.max()
    dark = torch.rand(images.shape, generator=torch.Generator().manual_seed(int(bright))).to(values).square()
    noise = 1 - dark if bright else dark
    return (low + (high - low) * noise if high > low else noise).to(images)
