"""Filling: activations of a layer that hold one feature vector at every location."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from torchnle.vision.features import Features
from torchnle.vision.layouts import Arrangement


class Filling:
    """Builds activations in a layer's own layout with the same vector at every location.

    Class and register tokens are those of a template. The location and channel of each number are found by
    reading an activation of running numbers, so every layout and order of tokens works.

    Args:
        template: The layer's output for one image, (1, ...).
        layer: The layer's name.
        arrangement: The meaning of its axes.

    Example:
        >>> filling = Filling(torch.zeros(1, 2, 2, 2), "layer", Arrangement("NCHW", (2, 2)))
        >>> filling(torch.tensor([[1.0, 2.0]])).tolist()
        [[[[1.0, 1.0], [1.0, 1.0]], [[2.0, 2.0], [2.0, 2.0]]]]
    """

    def __init__(self, template: Tensor, layer: str, arrangement: Arrangement) -> None:
        self.template = template.detach()
        numbers = torch.arange(template.numel(), dtype=torch.float64, device=template.device)
        index = Features.arranged(numbers.view(template.shape), layer, arrangement)
        self._index = index.tokens[0].long()
        self.grid = index.grid

    @property
    def width(self) -> int:
        """The number of channels D."""
        return self._index.shape[1]

    @property
    def locations(self) -> int:
        """The number of locations L that are filled."""
        return len(self._index)

    def __call__(self, vectors: Float[Tensor, "M D"]) -> Tensor:
        """Build one activation a vector, (M, ...), differentiable in the vectors."""
        count = len(vectors)
        every = self.template.flatten().expand(count, -1)
        values = vectors.to(self.template)[:, None].expand(-1, self.locations, -1)
        index = self._index.flatten().expand(count, -1)
        return every.scatter(1, index, values.flatten(1)).view(count, *self.template.shape[1:])

    def vectors(self, activations: Tensor) -> Float[Tensor, "M D"]:
        """Return the feature vector at the middle location of each activation."""
        return activations.flatten(1)[:, self._index[self.locations // 2]]
