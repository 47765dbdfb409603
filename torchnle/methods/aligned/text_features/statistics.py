"""Feature statistics of the pictures that are read: their mean feature, and the norms of features."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

#: How many pooled features are kept for calibration, drawn evenly from all that are met.
RESERVOIR = 4096


@dataclass(frozen=True)
class Domain:
    """Statistics of the features of one kind of pictures.

    Args:
        center: The mean pooled feature, (D,).
        pooled_norm: The mean norm of pooled features.
        location_norm: The mean norm of the features of single locations.
    """

    center: Float[Tensor, "D"]
    pooled_norm: float
    location_norm: float


class DomainSums:
    """Accumulates feature statistics batch by batch, with a uniform sample of the pooled features.

    Args:
        width: The width D of the features.
        seed: Seeds the sample.

    Example:
        >>> sums = DomainSums(2)
        >>> sums.add(torch.tensor([[3.0, 4.0]]), torch.tensor([[6.0, 8.0], [0.0, 0.0]]))
        >>> sums.solve()
        Domain(center=tensor([3., 4.]), pooled_norm=5.0, location_norm=5.0)
    """

    def __init__(self, width: int, seed: int = 0) -> None:
        self.count = self._locations = 0
        self._center = torch.zeros(width, dtype=torch.float64)
        self._norm = self._location_norm = 0.0
        self.sample: list[Tensor] = []
        self.sampled: list[int] = []
        self._generator = torch.Generator().manual_seed(seed)

    def add(self, pooled: Float[Tensor, "N D"], locations: Float[Tensor, "R D"]) -> None:
        """Add pictures by their pooled features (N, D) and the features of all their locations (R, D)."""
        rows = pooled.detach().float().cpu()
        for row in rows:
            self._consider(row.clone())  # a view would keep the whole batch
            self.count += 1
        self._locations += len(locations)
        self._center += rows.double().sum(dim=0)
        self._norm += float(rows.norm(dim=1).sum())
        self._location_norm += float(locations.detach().float().norm(dim=1).sum())

    def solve(self) -> Domain:
        """Compute the statistics of the pictures added so far.

        Raises:
            ValueError: If no picture was added.
        """
        if not self.count:
            raise ValueError("no pictures were given; pass at least one batch of images.")
        return Domain(
            (self._center / self.count).float(),
            self._norm / self.count,
            self._location_norm / self._locations,
        )

    def _consider(self, row: Float[Tensor, "D"]) -> None:
        """Keep every row with the same probability (reservoir sampling); `sampled` holds their numbers."""
        if len(self.sample) < RESERVOIR:
            self.sample.append(row)
            self.sampled.append(self.count)
            return
        slot = int(torch.randint(self.count + 1, (), generator=self._generator))
        if slot < RESERVOIR:
            self.sample[slot], self.sampled[slot] = row, self.count


def contentless(example: Float[Tensor, "N C H W"], count: int = 8) -> Float[Tensor, "count C H W"]:
    """Generate contentless pictures: one half noise of several grain sizes, one half constants.

    Args:
        example: One or more inputs, whose size, dtype and device are used.
        count: The number of pictures.
    """
    generator = torch.Generator().manual_seed(0)
    channels, height, width = example.shape[1:]
    pictures = []
    for index in range(count):
        if index % 2:
            picture = torch.randn(1, channels, 1, 1, generator=generator).expand(-1, -1, height, width)
        else:
            side = (min(height, width) // 2 ** (index % 8)) or 1
            grains = torch.randn(1, channels, side, side, generator=generator)
            picture = nn.functional.interpolate(grains, size=(height, width), mode="bicubic")
        pictures.append(picture)
    return torch.cat(pictures).to(example)


@contextmanager
def batch_statistics(model: nn.Module) -> Iterator[bool]:
    """Let every batch normalisation use the statistics of its batch while the block runs.

    After each of these layers any batch, even noise, then has the channel means and variances of the training
    images, so that the center of a network's features can be estimated without images. Running statistics are
    not changed.

    Yields:
        True if the model has such layers.
    """
    layers = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    saved = [(layer.running_mean, layer.running_var, layer.num_batches_tracked) for layer in layers]
    try:
        for layer in layers:
            layer.running_mean = layer.running_var = layer.num_batches_tracked = None
        yield bool(layers)
    finally:
        for layer, (mean, variance, tracked) in zip(layers, saved, strict=True):
            layer.running_mean, layer.running_var, layer.num_batches_tracked = mean, variance, tracked
