"""DeViL's two dropouts: of locations before pooling, and of whole layers (section 3.3, supplement A)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from torchnle.training.randomness import generator


@dataclass(frozen=True)
class Draws:
    """The random draws of one step, for all rows of its batch.

    They are drawn for the whole batch from the step's own seed, so that a run does not depend on the number
    of processes or on interruptions.

    Args:
        captions: The caption of each image, as a fraction of their number from 0 to 1, (B,).
        layers: Whether each layer is read, (B,) by name.
        locations: Whether each location of a layer is averaged, (B, L) by name.
    """

    captions: Float[Tensor, "B"]
    layers: Mapping[str, Bool[Tensor, "B"]]
    locations: Mapping[str, Bool[Tensor, "B L"]]

    @classmethod
    def of_step(
        cls,
        seed: int,
        step: int,
        batch_size: int,
        location_counts: Mapping[str, int],
        *,
        layer_dropout: float,
        location_dropout: tuple[float, float],
    ) -> Draws:
        """Draw the dropouts and captions of one step.

        Args:
            seed: The seed of the run.
            step: The number of the step.
            batch_size: The rows B of the whole batch.
            location_counts: The number of locations L of each layer.
            layer_dropout: The probability of dropping a layer.
            location_dropout: The range of the probability of dropping a location, which is drawn for each
                image and layer.
        """
        source = generator("step", seed, step)
        captions = torch.rand(batch_size, generator=source)
        layer_mask = keep(torch.full((batch_size, 1), 1 - layer_dropout), len(location_counts), source)
        least, most = location_dropout
        locations = {}
        for layer, count in location_counts.items():
            dropped = least + (most - least) * torch.rand(batch_size, 1, generator=source)
            locations[layer] = keep(1 - dropped, count, source)
        return cls(captions, dict(zip(location_counts, layer_mask.unbind(1), strict=True)), locations)

    def __getitem__(self, rows: slice) -> Draws:
        return Draws(
            self.captions[rows],
            {layer: mask[rows] for layer, mask in self.layers.items()},
            {layer: mask[rows] for layer, mask in self.locations.items()},
        )


def keep(
    probability: Float[Tensor, "B 1"], count: int, generator: torch.Generator
) -> Bool[Tensor, "B count"]:
    """Draw a mask that keeps each of `count` parts with its row's probability, and at least one per row.

    Raises:
        ValueError: If a probability is not in (0, 1].

    Example:
        >>> kept = keep(torch.full((1000, 1), 0.01), 3, torch.Generator().manual_seed(0))
        >>> bool(kept.any(dim=1).all())
        True
    """
    if not ((probability > 0) & (probability <= 1)).all():
        raise ValueError("a dropout must be at least 0 and below 1, so that something can remain.")
    mask = torch.zeros(len(probability), count, dtype=torch.bool)
    while (empty := ~mask.any(dim=1)).any():
        draws = torch.rand(int(empty.sum()), count, generator=generator)
        mask[empty] = draws < probability[empty]
    return mask


def present_layers(
    drawn: Mapping[str, Bool[Tensor, "B"]], known: Mapping[str, Bool[Tensor, "B"]]
) -> dict[str, Bool[Tensor, "B"]]:
    """Restrict the drawn layers of each row to those that it has; all that it has if none was drawn.

    Args:
        drawn: Whether each layer is read, (B,) by name.
        known: Whether each row has a layer, (B,) by name; layers without an entry are known for all rows.

    Example:
        >>> drawn = {"a": torch.tensor([True, True]), "b": torch.tensor([False, True])}
        >>> read = present_layers(drawn, {"a": torch.tensor([False, False])})
        >>> read["a"].tolist(), read["b"].tolist()
        ([False, False], [True, True])
    """
    there = {
        layer: known[layer].to(x.device) if layer in known else torch.ones_like(x)
        for layer, x in drawn.items()
    }
    both = {layer: x & there[layer] for layer, x in drawn.items()}
    none = ~torch.stack(list(both.values())).any(dim=0)
    return {layer: torch.where(none, there[layer], x) for layer, x in both.items()}


def pool(
    tokens: Mapping[str, Float[Tensor, "B _ _"]], locations: Mapping[str, Bool[Tensor, "B _"]] | None = None
) -> dict[str, Float[Tensor, "B 1 _"]]:
    """Average each layer over the kept locations, or over all.

    Args:
        tokens: (B, L, D) by layer.
        locations: Whether each is kept, (B, L) by layer; None = all.

    Example:
        >>> pool({"a": torch.tensor([[[1.0], [5.0]]])}, {"a": torch.tensor([[False, True]])})["a"].tolist()
        [[[5.0]]]
    """
    if locations is None:
        return {layer: x.mean(dim=1, keepdim=True) for layer, x in tokens.items()}
    return {layer: _mean_of(x, locations[layer].to(x.device)) for layer, x in tokens.items()}


def _mean_of(x: Float[Tensor, "B L D"], mask: Bool[Tensor, "B L"]) -> Float[Tensor, "B 1 D"]:
    weights = (mask / mask.sum(dim=1, keepdim=True)).to(x.dtype)
    return torch.bmm(weights[:, None], x)
