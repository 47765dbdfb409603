"""The k most active images of every unit, kept while images pass, and mergeable exactly."""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float, Int
from torch import Tensor

#: What is kept beside a unit's most active images: given (units, positions in the batch), one row for each.
Details = Callable[[Int[Tensor, "E"], Int[Tensor, "E"]], dict[str, Tensor]]


class TopK:
    """Each unit's k largest values with the images that gave them; of equal values the earlier image's.

    The result does not depend on the order in which images come, nor on how they are divided among
    processes.

    Args:
        units: The number U of units.
        k: How many are kept.

    Example:
        >>> top = TopK(units=1, k=2)
        >>> top.add(torch.tensor([0, 1, 2]), torch.tensor([[1.0], [3.0], [2.0]]))
        >>> top.values, top.images
        (tensor([[3., 2.]]), tensor([[1, 2]]))
    """

    def __init__(self, units: int, k: int) -> None:
        self.k = k
        self.values = torch.full((units, k), -torch.inf)
        self.images = torch.full((units, k), -1, dtype=torch.long)
        self.details: dict[str, Tensor] = {}

    def add(
        self, images: Int[Tensor, "B"], values: Float[Tensor, "B U"], details: Details | None = None
    ) -> None:
        """Add the values of a batch.

        Args:
            images: The images' numbers.
            values: Every unit's value in each image.
            details: What to keep of an image for a unit; called only for what enters.
        """
        units = len(self.values)
        joined = torch.cat([self.values, values.float().T], dim=1)
        numbers = torch.cat([self.images, images.expand(units, -1)], dim=1)
        chosen = _best(joined, numbers, self.k)
        self.values, self.images = joined.gather(1, chosen), numbers.gather(1, chosen)
        if details is not None:
            self._keep(chosen, details)

    def _keep(self, chosen: Int[Tensor, "U k"], details: Details) -> None:
        unit, rank = (chosen >= self.k).nonzero(as_tuple=True)
        stay = chosen.clamp(max=self.k - 1)
        fresh = details(unit, chosen[unit, rank] - self.k)
        for name, rows in fresh.items():
            if name not in self.details:
                self.details[name] = rows.new_zeros(*self.values.shape, *rows.shape[1:])
            kept = _gather(self.details[name], stay)
            kept[unit, rank] = rows
            self.details[name] = kept

    def merge(self, other: TopK) -> None:
        """Merge another process's largest values."""
        joined = torch.cat([self.values, other.values], dim=1)
        numbers = torch.cat([self.images, other.images], dim=1)
        chosen = _best(joined, numbers, self.k)
        self.values, self.images = joined.gather(1, chosen), numbers.gather(1, chosen)
        for name, like in {**other.details, **self.details}.items():
            both = [part.details.get(name, torch.zeros_like(like)) for part in (self, other)]
            self.details[name] = _gather(torch.cat(both, dim=1), chosen)

    def state(self) -> dict[str, Tensor]:
        """Return all tensors by name."""
        details = {f"details.{name}": kept for name, kept in self.details.items()}
        return {"values": self.values, "images": self.images, **details}

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore the largest values from `state`."""
        self.values, self.images = state["values"], state["images"]
        self.details = {n.removeprefix("details."): t for n, t in state.items() if n.startswith("details.")}


def _best(values: Float[Tensor, "U n"], images: Int[Tensor, "U n"], k: int) -> Int[Tensor, "U k"]:
    """Find the positions of each unit's k largest values, the earlier image first where they are equal."""
    by_image = images.argsort(dim=1, stable=True)
    order = values.gather(1, by_image).argsort(dim=1, descending=True, stable=True)
    return by_image.gather(1, order[:, :k])


def _gather(values: Tensor, chosen: Int[Tensor, "U k"]) -> Tensor:
    return values[torch.arange(len(values))[:, None], chosen]
