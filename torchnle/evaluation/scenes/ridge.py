"""Ridge regression in one pass over the data, from accumulated sums.

A layer's features X (n, d) are mapped to sentence embeddings Y (n, k) by minimising
``|Z W - (Y - mean(Y))|^2 + penalty |W|^2`` with Z the features standardised channel by channel. Only sums of
d x d and d x k numbers are kept, so a million captions need one pass and no more memory than a hundred.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.translators.config_values import Size

#: Penalties tried, as multiples of the number of samples: half a decade apart.
PENALTIES = tuple(10.0 ** (exponent / 2) for exponent in range(-10, 5))


class RidgeMap(nn.Module):
    """A fitted linear map from a layer's features to another space.

    Args:
        in_width: The number of channels d.
        out_width: The width k of the space mapped to.

    Example:
        >>> RidgeMap(4, 2)(torch.zeros(3, 4)).shape
        torch.Size([3, 2])
    """

    mean: Tensor
    scale: Tensor
    weight: Tensor
    bias: Tensor

    def __init__(self, in_width: Size, out_width: Size) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(in_width))
        self.register_buffer("scale", torch.ones(in_width))
        self.register_buffer("weight", torch.zeros(out_width, in_width))
        self.register_buffer("bias", torch.zeros(out_width))

    @property
    def center(self) -> Float[Tensor, "k"]:
        """The mean of the targets, to which the mean features are mapped."""
        return self.bias

    @property
    def config(self) -> dict[str, float]:
        """The constructor's arguments except the width of the text space."""
        return {"in_width": len(self.mean)}

    def forward(self, features: Float[Tensor, "*rows d"]) -> Float[Tensor, "*rows k"]:
        """Standardise each channel and map."""
        standardised = (features.to(self.weight.dtype) - self.mean) * self.scale
        return nn.functional.linear(standardised, self.weight, self.bias)


class RidgeSums:
    """The sums of a ridge regression, accumulated batch by batch in float64.

    Args:
        in_width: The number of channels d.
        out_width: The width k of the targets.
        sample: The number of rows kept for leave-one-out errors; all rows up to this number, then a uniform
            sample of the stream.
        seed: Seeds the sample.

    Example:
        >>> x = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
        >>> sums = RidgeSums(3, 1)
        >>> sums.add(x, 2 * x[:, :1] + 1)
        >>> fitted, report = sums.solve()
        >>> bool((fitted(torch.eye(3))[:, 0] - torch.tensor([3.0, 1, 1])).abs().max() < 0.01)
        True
    """

    def __init__(self, in_width: int, out_width: int, *, sample: int = 2048, seed: int = 0) -> None:
        self.count = 0
        self.x_sum = torch.zeros(in_width, dtype=torch.float64)
        self.y_sum = torch.zeros(out_width, dtype=torch.float64)
        self.y_squares = 0.0
        self.xx = torch.zeros(in_width, in_width, dtype=torch.float64)
        self.xy = torch.zeros(in_width, out_width, dtype=torch.float64)
        self._reservoir: list[tuple[Tensor, Tensor]] = []
        self._sample = sample
        self._generator = torch.Generator().manual_seed(seed)

    def add(self, features: Float[Tensor, "n d"], targets: Float[Tensor, "n k"]) -> None:
        """Add one batch of pairs to the sums.

        Raises:
            ValueError: If the widths or numbers of rows differ, or a value is NaN.
        """
        x, y = features.detach().double().cpu(), targets.detach().double().cpu()
        if x.shape[0] != y.shape[0] or x.shape[1:] != self.x_sum.shape or y.shape[1:] != self.y_sum.shape:
            raise ValueError(
                f"features {tuple(x.shape)} and targets {tuple(y.shape)} do not fit a regression from "
                f"{len(self.x_sum)} to {len(self.y_sum)} columns with one target a row."
            )
        if not (torch.isfinite(x).all() and torch.isfinite(y).all()):
            raise ValueError("features or targets hold NaN or infinite values.")
        self.x_sum += x.sum(dim=0)
        self.y_sum += y.sum(dim=0)
        self.y_squares += float(y.square().sum())
        self.xx += x.T @ x
        self.xy += x.T @ y
        for row in zip(x, y, strict=True):
            self._keep(row)

    @property
    def target_spread(self) -> float:
        """The root mean squared distance of the targets from their mean."""
        mean_square = float((self.y_sum / self.count).square().sum())
        return math.sqrt(max(self.y_squares / self.count - mean_square, 0.0))

    def solve(self, penalties: Sequence[float] = PENALTIES) -> tuple[RidgeMap, dict[str, float]]:
        """Fit the map with the penalty of the least leave-one-out error.

        One eigendecomposition of the d x d correlation matrix serves all penalties: with leverage
        h_i = 1/n + z_i' (Z'Z + penalty)^-1 z_i, leaving row i out changes its residual to r_i / (1 - h_i).

        Args:
            penalties: The candidates, as multiples of the number of samples.

        Returns:
            The map, and the chosen "penalty", its "loo_error" (mean squared length of the left-out residual),
            "loo_r2" (the share of the targets' variance that is explained so) and "samples".

        Raises:
            ValueError: If fewer than two samples were added.

        Warns:
            UserWarning: If there are fewer samples than channels, or constant channels (they get weight 0).
        """
        if self.count < 2:
            raise ValueError(f"{self.count} sample(s) were added; a regression needs at least two.")
        mean, y_mean, scale = self._moments()
        correlation = scale[:, None] * (self.xx - self.count * torch.outer(mean, mean)) * scale
        cross = scale[:, None] * (self.xy - self.count * torch.outer(mean, y_mean))
        values, vectors = torch.linalg.eigh(correlation)
        values, rotated = values.clamp(min=0), vectors.T @ cross
        x, y = (torch.stack(column) for column in zip(*self._reservoir, strict=True))
        turned = ((x - mean) * scale) @ vectors
        errors = [self._loo(turned, y - y_mean, values, rotated, p * self.count) for p in penalties]
        best = min(range(len(errors)), key=errors.__getitem__)
        penalty = penalties[best] * self.count
        weight = vectors @ (rotated / (values + penalty)[:, None])
        variance = (y - y.mean(dim=0)).square().sum(dim=1).mean().item()
        report = {
            "penalty": penalties[best],
            "loo_error": errors[best],
            "loo_r2": 1 - errors[best] / variance if variance > 0 else 0.0,
            "samples": float(self.count),
        }
        return _map(mean, scale, weight, y_mean), report

    def _keep(self, row: tuple[Tensor, Tensor]) -> None:
        """Update the reservoir sample: every row so far is kept with the same probability."""
        self.count += 1
        if len(self._reservoir) < self._sample:
            self._reservoir.append(row)
            return
        slot = int(torch.randint(self.count, (), generator=self._generator))
        if slot < self._sample:
            self._reservoir[slot] = row

    def _moments(self) -> tuple[Tensor, Tensor, Tensor]:
        """Compute means, and the reciprocal standard deviations (0 for constant channels)."""
        mean, y_mean = self.x_sum / self.count, self.y_sum / self.count
        variance = (self.xx.diagonal() / self.count - mean.square()).clamp(min=0)
        moving = variance > 1e-10 * variance.max()
        scale = torch.where(moving, variance.clamp(min=1e-300).rsqrt(), torch.zeros_like(variance))
        width = len(mean)
        if not moving.all():
            constant = int((~moving).sum())
            warnings.warn(f"{constant} of {width} channels are constant; they get weight 0.", stacklevel=3)
        if self.count < width:
            warnings.warn(
                f"{self.count} samples for {width} channels: the map depends on its regulariser. Pass more "
                "samples, or spatial subsets of them.",
                stacklevel=3,
            )
        return mean, y_mean, scale

    def _loo(self, z: Tensor, y: Tensor, values: Tensor, rotated: Tensor, penalty: float) -> float:
        shrunk = 1 / (values + penalty)
        residual = y - z @ (rotated * shrunk[:, None])
        leverage = 1 / self.count + (z.square() * shrunk).sum(dim=1)
        left_out = residual / (1 - leverage).clamp(min=1e-9)[:, None]
        return float(left_out.square().sum(dim=1).mean())


def _map(mean: Tensor, scale: Tensor, weight: Tensor, y_mean: Tensor) -> RidgeMap:
    fitted = RidgeMap(len(mean), len(y_mean))
    for name, value in {"mean": mean, "scale": scale, "weight": weight.T, "bias": y_mean}.items():
        getattr(fitted, name).copy_(value.float())
    return fitted
