"""Features: whatever a layer gives, as (N, L, D) tokens that know their place."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle.types import Where


@dataclass(frozen=True)
class Features:
    """The features of one layer for a batch of images, one token a location.

    Args:
        tokens: The local features, (images N, locations L, width D), any floating dtype.
        layer: The dotted name of the layer they came from.
        grid: (rows, columns) with rows * columns = L in row-major order; None where the tokens have no
            place in the image (vectors, pooled or masked features, class tokens).
        extra: Class, distillation and register tokens that stood before the grid's tokens, (N, K, D).
        locations: The (row, column) of each token; filled in from `grid`, kept by `select`.

    Raises:
        ValueError: If the grid does not fit the number of tokens.

    Example:
        >>> features = Features(torch.arange(12.0).view(1, 6, 2), layer="layer4", grid=(2, 3))
        >>> features.select((1, 2)).tokens.tolist()
        [[[10.0, 11.0]]]
        >>> features.select(None).tokens.tolist()
        [[[5.0, 6.0]]]
    """

    tokens: Float[Tensor, "N L D"]
    layer: str
    grid: tuple[int, int] | None = None
    extra: Float[Tensor, "N K D"] | None = None
    locations: tuple[tuple[int, int] | None, ...] = ()

    def __post_init__(self) -> None:
        count = self.tokens.shape[1]
        if self.grid is not None:
            rows, columns = self.grid
            if rows * columns != count:
                raise ValueError(
                    f"grid {self.grid} has {rows * columns} places, but layer '{self.layer}' gave {count} "
                    "tokens. Pass grid=(rows, columns) that multiplies to the number of tokens."
                )
            places = tuple((r, c) for r in range(rows) for c in range(columns))
            object.__setattr__(self, "locations", places)
        elif not self.locations:
            object.__setattr__(self, "locations", (None,) * count)

    @property
    def batch_size(self) -> int:
        """The number of images N."""
        return self.tokens.shape[0]

    @property
    def width(self) -> int:
        """The number of channels D."""
        return self.tokens.shape[2]

    @property
    def rows(self) -> Float[Tensor, "R D"]:
        """Every token of every image as one row, image by image: (N * L, D)."""
        return self.tokens.reshape(-1, self.width)

    def select(self, where: Where) -> Features:
        """Keep only the locations asked for.

        Args:
            where: None = the mean over all locations (one token an image); "all" = every location;
                (row, column) = one location of the grid, negative numbers count from the end;
                a tensor (H, W) or (N, H, W) = the mean weighted by it, resized to the grid bilinearly
                (DeViL, section 3.4: a mask of any size, non-negative, not all zero).

        Raises:
            ValueError: If the layer has no grid, the location lies outside it, or the mask is negative,
                empty or of another batch size.
        """
        if where is None:
            return self._pooled(self.tokens.mean(dim=1, keepdim=True))
        if isinstance(where, str):
            if where != "all":
                raise ValueError(f"where={where!r}; pass None, 'all', (row, column) or a mask tensor.")
            return self
        if isinstance(where, Tensor):
            return self._pooled(self._masked_mean(where))
        return self._at(where)

    def extras(self) -> Features:
        """The class, distillation and register tokens as features of their own, without places.

        Raises:
            ValueError: If the layer has none.
        """
        if self.extra is None or self.extra.shape[1] == 0:
            raise ValueError(f"layer '{self.layer}' has no class or register tokens.")
        return Features(self.extra, self.layer)

    def fold(self, values: Tensor) -> Tensor:
        """Lay values (N * L, ...) or (N, L, ...) out on the grid: (N, rows, columns, ...).

        Raises:
            ValueError: If the layer has no grid.
        """
        rows, columns = self._require_grid()
        trailing = values.shape[1:] if values.shape[0] != self.batch_size else values.shape[2:]
        return values.reshape(self.batch_size, rows, columns, *trailing)

    def check_finite(self) -> Features:
        """Return self, or raise if any value is NaN or infinite.

        Raises:
            ValueError: With the layer's name and the first images concerned.
        """
        bad = ~torch.isfinite(self.tokens).flatten(1).all(dim=1)
        if bad.any():
            images = bad.nonzero().flatten().tolist()
            raise ValueError(
                f"layer '{self.layer}' gave NaN or infinite features for image(s) {images[:8]} of "
                f"{self.batch_size}. Check the model's weights, its dtype and the input's scaling."
            )
        return self

    def _require_grid(self) -> tuple[int, int]:
        if self.grid is None:
            raise ValueError(
                f"layer '{self.layer}' has no spatial grid (its features are vectors or unplaced tokens). "
                "Read it as a whole with where=None, or pass grid=(rows, columns)."
            )
        return self.grid

    def _pooled(self, tokens: Tensor) -> Features:
        return replace(self, tokens=tokens, grid=None, locations=(None,))

    def _at(self, where: tuple[int, int]) -> Features:
        rows, columns = self._require_grid()
        row, column = where
        if not (-rows <= row < rows and -columns <= column < columns):
            raise ValueError(
                f"where={tuple(where)} lies outside the {rows}x{columns} grid of layer '{self.layer}'."
            )
        place = (row % rows, column % columns)
        index = place[0] * columns + place[1]
        token = self.tokens[:, index : index + 1]
        return replace(self, tokens=token, grid=None, locations=(place,))

    def _masked_mean(self, mask: Tensor) -> Float[Tensor, "N 1 D"]:
        weights = self._mask_weights(mask).to(self.tokens)
        return torch.einsum("nl,nld->nd", weights, self.tokens).unsqueeze(1)

    def _mask_weights(self, mask: Tensor) -> Float[Tensor, "N L"]:
        """Weights over locations that sum to one (reference: MILAN's masked pooling)."""
        grid = self._require_grid()
        maps = mask.float().unsqueeze(0) if mask.ndim == 2 else mask.float()
        if maps.ndim != 3 or maps.shape[0] not in (1, self.batch_size):
            raise ValueError(
                f"the mask has shape {tuple(mask.shape)}; pass (H, W) or ({self.batch_size}, H, W)."
            )
        if not torch.isfinite(maps).all() or (maps < 0).any():
            raise ValueError("the mask must be finite and non-negative.")
        resized = F.interpolate(maps[:, None], size=grid, mode="bilinear", antialias=True)
        weights = resized.flatten(1).expand(self.batch_size, -1)
        totals = weights.sum(dim=1, keepdim=True)
        if (totals <= 0).any():
            raise ValueError(f"the mask is empty on the {grid[0]}x{grid[1]} grid of layer '{self.layer}'.")
        return weights / totals
