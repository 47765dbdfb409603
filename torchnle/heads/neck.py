"""Necks: the operations of a model between pooling and its head, as one module."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from torchnle.types import Layout
from torchnle.vision.running import evaluating

#: The errors of modules that want another size, or more than one argument.
_REFUSALS = (RuntimeError, ValueError, TypeError, IndexError, AssertionError)


class Neck(nn.Module):
    """The modules of a model between its pooled features and its head, applied to rows of features.

    Args:
        modules: The modules, in order.
        shapes: The shape of one image's input to each: (D, 1, 1) for a norm over maps; None = unchanged rows.

    Example:
        >>> import torch
        >>> Neck([nn.BatchNorm2d(2, eps=0.0)], [(2, 1, 1)])(torch.tensor([[1.0, 2.0]]))
        tensor([[1., 2.]], grad_fn=<...>)
    """

    def __init__(self, modules: Sequence[nn.Module], shapes: Sequence[tuple[int, ...] | None]) -> None:
        super().__init__()
        self.steps = nn.ModuleList(modules)
        self.shapes = tuple(shapes)

    def forward(self, rows: Float[Tensor, "R D"]) -> Float[Tensor, "R E"]:
        """Apply the modules in evaluation mode."""
        rows = rows.clone()  # some modules work in place
        with evaluating(self):
            for module, shape in zip(self.steps, self.shapes, strict=True):
                given = rows if shape is None else rows.reshape(-1, *shape)
                rows = module(given).flatten(1)
        return rows


class Product(nn.Module):
    """Multiplies rows by a matrix that a model holds as a parameter (CLIP's projection).

    Args:
        matrix: The parameter, (D, E), detached.
        name: The parameter's dotted name.

    Example:
        >>> import torch
        >>> Product(torch.tensor([[2.0], [1.0]]), "proj")(torch.tensor([[1.0, 3.0]]))
        tensor([[5.]])
    """

    matrix: Tensor

    def __init__(self, matrix: Float[Tensor, "D E"], name: str) -> None:
        super().__init__()
        self.register_buffer("matrix", matrix.detach(), persistent=False)
        self.name = name

    def forward(self, rows: Float[Tensor, "R D"]) -> Float[Tensor, "R E"]:
        """Multiply rows by the matrix."""
        return rows @ self.matrix


class Unit(nn.Module):
    """Normalises every row to unit length.

    Example:
        >>> import torch
        >>> Unit()(torch.tensor([[3.0, 4.0]]))
        tensor([[0.6000, 0.8000]])
    """

    def forward(self, rows: Float[Tensor, "R D"]) -> Float[Tensor, "R D"]:
        """Divide each row by its Euclidean norm."""
        return F.normalize(rows, dim=1)


class Filled(nn.Module):
    """Applies a pooling module to flattened features of all locations, or of one location.

    Args:
        pool: The module; None = the model flattens the map.
        layout: The order of axes that it expects: "NCHW", "NHWC" or "NLD".
        width: The number of channels.
        grid: (rows, columns) of a map; None for tokens.

    Example:
        >>> import torch
        >>> row = torch.tensor([[1.0, 5.0, 2.0, 6.0]])  # two locations of two channels
        >>> Filled(None, "NCHW", 2, (1, 2))(row)
        tensor([[1., 2., 5., 6.]])
    """

    def __init__(
        self, pool: nn.Module | None, layout: Layout, width: int, grid: tuple[int, int] | None = None
    ) -> None:
        super().__init__()
        self.pool, self.layout, self.width, self.grid = pool, layout, width, grid

    def forward(self, rows: Float[Tensor, "R LD"]) -> Float[Tensor, "R E"]:
        """Arrange the rows on the grid and pool them; a single location is a 1x1 map."""
        tokens = rows.view(len(rows), -1, self.width)
        if self.layout != "NLD":
            grid = self.grid if tokens.shape[1] > 1 and self.grid else (1, 1)
            tokens = tokens.view(len(rows), *grid, self.width)
        laid = tokens.movedim(-1, 1) if self.layout == "NCHW" else tokens
        given: Tensor = laid if self.pool is None else self.pool(laid)
        return given.flatten(1)


@torch.no_grad()
def attempt(neck: Neck | None, rows: Float[Tensor, "R D"]) -> Float[Tensor, "R E"] | None:
    """Apply a neck to rows, in the dtype of its own tensors; None if it needs other arguments.

    Example:
        >>> import torch
        >>> attempt(Neck([nn.Linear(3, 2)], [None]), torch.ones(1, 4)) is None
        True
    """
    if neck is None:
        return rows
    own = next((t for t in (*neck.parameters(), *neck.buffers()) if t.is_floating_point()), rows)
    try:
        return neck(rows.to(own.dtype)).float()  # type: ignore[no-any-return]
    except _REFUSALS:
        return None
