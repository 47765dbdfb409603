"""Features: the output of any layer as (N, L, D) tokens with their locations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from torchnle.types import Layout, Where
from torchnle.vision.layouts import Arrangement, Hints, arrange


@dataclass(frozen=True)
class Features:
    """The features of one layer for a batch of images, one token per location.

    Args:
        tokens: The local features, (images N, locations L, width D), any floating dtype.
        layer: The dotted name of the layer they came from.
        grid: (rows, columns) with rows * columns = L in row-major order; None if the tokens have no location
            in the image (vectors, pooled or masked features, class tokens).
        extra: Class, distillation and register tokens, which are outside the grid, (N, K, D).
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
                    f"grid {self.grid} has {rows * columns} locations, but layer '{self.layer}' gave {count} "
                    "tokens. Pass grid=(rows, columns) that multiplies to the number of tokens."
                )
            object.__setattr__(self, "locations", _grid_locations(rows, columns))
        elif not self.locations:
            object.__setattr__(self, "locations", (None,) * count)

    @classmethod
    def from_activation(
        cls,
        activation: Tensor,
        layer: str,
        *,
        batch_size: int | None = None,
        input_size: tuple[int, int] | None = None,
        layout: Layout = "auto",
        grid: tuple[int, int] | None = None,
        num_prefix_tokens: int | None = None,
        hints: Hints | None = None,
    ) -> Features:
        """Convert the output of any layer into (N, L, D) tokens.

        Args:
            activation: (N, C, H, W), channel-last (N, H, W, C), tokens (N, L, D) or vectors (N, D), floating.
            layer: The layer's name.
            batch_size: The number of images that were given to the model; None = do not check.
            input_size: (height, width) of those images in pixels: the strongest evidence on the grid.
            layout: The order of the axes; "auto" = find it.
            grid: (rows, columns) of the locations; None = find it.
            num_prefix_tokens: How many class, distillation and register tokens come first; None = find it.
            hints: Widths and layouts that the model states (`torchnle.vision.layouts.hints_for`).

        Raises:
            TypeError: If the activation is not floating.
            ValueError: If the batch differs, or the layout does not fit or stays ambiguous; the message names
                the argument that settles it.

        Example:
            >>> tokens = torch.zeros(2, 1 + 12 * 16, 8)
            >>> features = Features.from_activation(tokens, "norm", input_size=(192, 256))
            >>> features.grid, features.tokens.shape, features.extra.shape
            ((12, 16), torch.Size([2, 192, 8]), torch.Size([2, 1, 8]))
        """
        check_activation(activation, layer, batch_size)
        arrangement = arrange(
            activation.shape,
            layer,
            input_size=input_size,
            layout=layout,
            grid=grid,
            num_prefix_tokens=num_prefix_tokens,
            hints=hints,
        )
        return cls.arranged(activation, layer, arrangement)

    @classmethod
    def arranged(
        cls, activation: Tensor, layer: str, arrangement: Arrangement, *, batch_size: int | None = None
    ) -> Features:
        """Convert the output of a layer whose axes are known into (N, L, D) tokens.

        Raises:
            TypeError: If the activation is not floating.
            ValueError: If the batch differs from `batch_size`.

        Example:
            >>> Features.arranged(torch.zeros(2, 8, 3, 4), "layer4", Arrangement("NCHW", (3, 4))).tokens.shape
            torch.Size([2, 12, 8])
        """
        check_activation(activation, layer, batch_size)
        if arrangement.order == ():
            return cls(activation, layer)
        tokens, split = as_tokens(activation, arrangement.layout), arrangement.num_prefix_tokens
        if arrangement.order is not None:
            return cls(*_reordered(tokens, arrangement.order, layer, arrangement.grid))
        return cls(tokens[:, split:], layer, arrangement.grid, tokens[:, :split] if split else None)

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
        """Select one location, every location, or a mean over them.

        Args:
            where: None = the mean over all locations (one token per image); "all" = every location;
                (row, column) = one location of the grid, negative numbers count from the end;
                a tensor (H, W) or (N, H, W) = the mean weighted by it, resized to the grid bilinearly
                (DeViL, section 3.4: a mask of any size, non-negative, not all zero).

        Returns:
            Features with the selected tokens and their locations.

        Raises:
            ValueError: If the layer has no grid, the location lies outside it, or the mask is negative,
                empty or of another batch size.

        Example:
            >>> features = Features(torch.arange(4.0).view(1, 4, 1), layer="layer4", grid=(2, 2))
            >>> features.select("all").tokens.shape, features.select((1, 0)).tokens.item()
            (torch.Size([1, 4, 1]), 2.0)
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

    def images(self, indices: Sequence[int]) -> Features:
        """Select images, in the order given."""
        chosen = list(indices)
        extra = None if self.extra is None else self.extra[chosen]
        return replace(self, tokens=self.tokens[chosen], extra=extra)

    @property
    def every_token(self) -> Float[Tensor, "N T D"]:
        """The tokens of each image, class and register tokens first.

        Example:
            >>> features = Features(torch.zeros(2, 4, 3), "norm", (2, 2), torch.ones(2, 1, 3))
            >>> features.every_token[0, :, 0].tolist()
            [1.0, 0.0, 0.0, 0.0, 0.0]
        """
        return self.tokens if self.extra is None else torch.cat([self.extra, self.tokens], dim=1)

    def extras(self) -> Features:
        """Return the class, distillation and register tokens as features of their own, without locations.

        Raises:
            ValueError: If the layer has none.
        """
        if self.extra is None or self.extra.shape[1] == 0:
            raise ValueError(f"layer '{self.layer}' has no class or register tokens.")
        return Features(self.extra, self.layer)

    def fold(self, values: Tensor) -> Tensor:
        """Reshape values (N * L, ...) or (N, L, ...) to the grid: (N, rows, columns, ...).

        Raises:
            ValueError: If the layer has no grid, or there is not one value per row.
        """
        rows, columns = self._require_grid()
        images, locations = self.tokens.shape[:2]
        shape = tuple(values.shape)
        if shape[:1] == (images * locations,):
            return values.reshape(images, rows, columns, *shape[1:])
        if shape[:2] == (images, locations):
            return values.reshape(images, rows, columns, *shape[2:])
        raise ValueError(
            f"values of shape {shape} do not fill {images} grid(s) of {rows}x{columns}; "
            f"pass ({images * locations}, ...) or ({images}, {locations}, ...)."
        )

    def check_finite(self) -> Features:
        """Return self, or raise if any value is NaN or infinite.

        Raises:
            ValueError: With the layer's name and the first images concerned.
        """
        tokens = self.tokens.detach()
        total = tokens.sum(dtype=torch.promote_types(tokens.dtype, torch.float32))
        if torch.isfinite(total):  # one pass over the features; the checks below take several
            return self
        bad = ~torch.isfinite(tokens).flatten(1).all(dim=1)
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
        location = (row % rows, column % columns)
        index = location[0] * columns + location[1]
        token = self.tokens[:, index : index + 1]
        return replace(self, tokens=token, grid=None, locations=(location,))

    def _masked_mean(self, mask: Tensor) -> Float[Tensor, "N 1 D"]:
        weights = self._mask_weights(mask).to(self.tokens)
        return torch.einsum("nl,nld->nd", weights, self.tokens).unsqueeze(1)

    def _mask_weights(self, mask: Tensor) -> Float[Tensor, "N L"]:
        """Compute weights over locations that sum to one (reference: MILAN's masked pooling)."""
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


@lru_cache(maxsize=64)
def _grid_locations(rows: int, columns: int) -> tuple[tuple[int, int], ...]:
    return tuple((row, column) for row in range(rows) for column in range(columns))


def check_activation(activation: Tensor, layer: str, batch_size: int | None) -> None:
    """Refuse the output of a layer that is not floating, is empty, or of another batch than the input.

    Raises:
        TypeError: If it is not floating.
        ValueError: If it holds no numbers, or its batch differs from `batch_size`; None = any.

    Example:
        >>> check_activation(torch.zeros(2, 5), "fc", 2)
    """
    shape = tuple(activation.shape)
    if not activation.is_floating_point():
        raise TypeError(
            f"layer '{layer}' gave {activation.dtype}; features must be floating. Pass another layer."
        )
    if 0 in shape[1:]:
        raise ValueError(f"layer '{layer}' gave shape {shape}, which holds no numbers. Pass another layer.")
    if batch_size is None or shape[:1] == (batch_size,):
        return
    advice = "Pass a layer that keeps the batch first (windows, for one, are no images)."
    if len(shape) == 3 and shape[1] == batch_size:
        advice = "It seems to be sequence first: pass select=lambda output: output.transpose(0, 1)."
    raise ValueError(f"layer '{layer}' gave shape {shape} for a batch of {batch_size}. {advice}")


def _reordered(
    tokens: Tensor, order: Sequence[int], layer: str, grid: tuple[int, int] | None
) -> tuple[Tensor, str, tuple[int, int] | None, Tensor | None]:
    """Build the arguments of `Features` for tokens in another order."""
    others = sorted(set(range(tokens.shape[1])) - set(order))
    return tokens[:, list(order)], layer, grid, tokens[:, others] if others else None


def as_tokens(activation: Tensor, layout: str) -> Tensor:
    """Flatten the grid of an activation to tokens, (N, L, D), row by row.

    Example:
        >>> as_tokens(torch.zeros(2, 8, 3, 4), "NCHW").shape
        torch.Size([2, 12, 8])
    """
    if layout == "NCHW":
        return activation.flatten(2).transpose(1, 2)
    if layout == "NHWC":
        return activation.flatten(1, 2)
    return activation if layout == "NLD" else activation.unsqueeze(1)
