"""Places: whether a layer's tokens stand in the order of the image, by a probe, and how to put them so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor

from torchnle.features import Features
from torchnle.reading import Reading, read
from torchnle.taps import LayerChoice, first_tensor, resolve

#: Places are in order if hardly more of a quarter's change lies in the best quarter than in the right one.
SCATTER = 0.5
#: An order that was guessed must do better than that.
_GUESSED = 0.15


@dataclass(frozen=True)
class Located:
    """Where the change between two images lies that differ in their top right quarter only.

    Args:
        right: The part of it that lies in the top right quarter of the grid; 0.25 if the grid meant nothing.
        best: The part that lies in the quarter of the places that changes most.
    """

    right: float
    best: float

    @property
    def in_order(self) -> bool:
        """Whether the places that change are the right ones."""
        return self.best - self.right <= SCATTER


@dataclass(frozen=True)
class unrolled:  # noqa: N801 - it is called as a function, select=unrolled((7, 7))
    """A `select` for models that keep the parts of every 2x2 block far apart, as Hiera does for its pooling.

    Their tokens are ordered by the place within a block of two, then within a block of four, ..., and last by
    the coarsest grid. One object serves all layers: it reads off the number of tokens how often they were
    divided, and leaves alone what was not.

    Args:
        coarsest: (rows, columns) of the grid that is not divided any more.

    Example:
        >>> tokens = torch.tensor([[0.0, 2, 8, 10, 1, 3, 9, 11, 4, 6, 12, 14, 5, 7, 13, 15]])[..., None]
        >>> unrolled((2, 2))(tokens).flatten().int().tolist()
        [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15]
    """

    coarsest: tuple[int, int]

    def __call__(self, output: Any) -> Tensor:
        """The tokens of a layer's output, row by row."""
        tokens = first_tensor(output)
        if tokens is None or tokens.ndim != 3:
            given = "no tensor" if tokens is None else f"shape {tuple(tokens.shape)}"
            raise ValueError(f"{self} reorders tokens (N, L, D); the layer gave {given}.")
        levels = self._levels(tokens.shape[1])
        if not levels:
            return tokens
        split = tokens.view(len(tokens), *(2, 2) * levels, *self.coarsest, tokens.shape[2])
        rows = range(2 * levels + 1, 0, -2)  # coarsest first
        columns = range(2 * levels + 2, 1, -2)
        return split.permute(0, *rows, *columns, split.ndim - 1).flatten(1, -2)

    def _levels(self, count: int) -> int:
        """How often the coarsest grid was divided; 0 if the tokens are no such grid."""
        blocks, rest = divmod(count, prod(self.coarsest))
        levels = (blocks.bit_length() - 1) // 2
        return levels if rest == 0 and blocks == 4**levels else 0


def seeded_pair(size: tuple[int, int]) -> Tensor:
    """Two seeded images that differ in their top right quarter only: (2, 3, height, width).

    Example:
        >>> first, second = seeded_pair((4, 4))
        >>> (first != second)[0].int().tolist()
        [[0, 0, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0], [0, 0, 0, 0]]
    """
    generator = torch.Generator().manual_seed(0)
    height, width = size
    first = torch.randn(3, height, width, generator=generator)
    second = first.clone()
    second[:, : height // 2, width // 2 :] = torch.randn(
        3, height // 2, width - width // 2, generator=generator
    )
    return torch.stack([first, second])


def locate(features: Features) -> Located:
    """Where the change between the two images of `seeded_pair` lies, of features that have a grid.

    Example:
        >>> tokens = torch.zeros(2, 4, 1)
        >>> tokens[1, 2] = 1.0  # the place at the bottom left changes
        >>> locate(Features(tokens, "layer", (2, 2)))
        Located(right=0.0, best=1.0)
    """
    rows, columns = features.grid or (1, 1)
    energy = (features.tokens[1] - features.tokens[0]).square().sum(-1).view(rows, columns)
    weight = (_first_half(rows)[:, None] * _first_half(columns).flip(0)[None]).to(energy)
    total = energy.sum().clamp(min=torch.finfo(energy.dtype).tiny)
    most = energy.flatten().sort(descending=True).values[: -(-energy.numel() // 4)]
    return Located(float((energy * weight).sum() / total), float(most.sum() / total))


def find_order(
    model: Callable[..., Any], layers: LayerChoice, size: tuple[int, int], additional_forward_args: Any = None
) -> unrolled | None:
    """Look whether the places of layers are in the order of the image, and find what puts them so.

    The model runs on two images that differ in a quarter; what changes in the layers must lie in that quarter
    of their grids. Where it does not, grids divided by two again and again are tried.

    Args:
        model: The vision model.
        layers: Layers with places, as for `LanguageAttribution`.
        size: (height, width) of its input.
        additional_forward_args: Passed to the model after the inputs.

    Returns:
        None where all places are in order; else the `select` for `Reading` that brings all of them in order.

    Raises:
        ValueError: If no such order is found.

    Example:
        >>> find_order(model, "layer", (8, 8)) is None
        True
    """
    taps, pair = resolve(model, layers), seeded_pair(size)
    with torch.no_grad():
        features = read(model, taps, pair, additional_forward_args)
        scattered = [f for f in features if f.grid and not locate(f).in_order]
        if not scattered:
            return None
        found: dict[float, unrolled] = {}
        for select in _candidates([f.grid for f in scattered if f.grid]):
            ordered = read(model, taps, pair, additional_forward_args, Reading(select=select))
            placed = [locate(f) for f in ordered if f.grid]
            if all(place.best - place.right <= _GUESSED for place in placed):
                found.setdefault(min(place.right for place in placed), select)
        if found:
            return found[max(found)]
    names = ", ".join(repr(f.layer) for f in scattered)
    raise ValueError(
        f"the places of {names} are not in the order of the image: what a "
        "quarter of the input changes lies elsewhere. Pass select=, a function that puts them in order."
    )


def _candidates(grids: Sequence[tuple[int, int]]) -> Iterator[unrolled]:
    """The finest grid halved once, twice, ... while both sides can be."""
    rows, columns = max(grids)
    while rows % 2 == 0 and columns % 2 == 0:
        rows, columns = rows // 2, columns // 2
        yield unrolled((rows, columns))


def _first_half(count: int) -> Tensor:
    """How much of each of `count` equal cells lies in the first half."""
    return (count / 2 - torch.arange(count)).clamp(0, 1)
