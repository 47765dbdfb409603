"""A table of every image's activations and evidence feature, for probing sets that fit into memory."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


class Table:
    """One row per image, in the order of their numbers: an option, since it grows with the probing set.

    Example:
        >>> table = Table()
        >>> table.add(torch.tensor([1]), {"a": torch.tensor([[2.0]])})
        >>> table.add(torch.tensor([0]), {"a": torch.tensor([[3.0]])})
        >>> table.images.tolist(), table["a"].tolist()
        ([0, 1], [[3.0], [2.0]])
    """

    def __init__(self) -> None:
        self._images: list[Tensor] = []
        self._columns: dict[str, list[Tensor]] = {}

    def add(self, images: Int[Tensor, "B"], columns: dict[str, Tensor]) -> None:
        """Add the rows of a batch."""
        self._images.append(images)
        for name, rows in columns.items():
            self._columns.setdefault(name, []).append(rows)

    def merge(self, other: Table) -> None:
        """Merge another process's rows."""
        if other._images:
            self.add(
                torch.cat(other._images), {name: torch.cat(rows) for name, rows in other._columns.items()}
            )

    @property
    def images(self) -> Int[Tensor, "N"]:
        """The images' numbers."""
        return self._joined[0]

    def __getitem__(self, name: str) -> Float[Tensor, "N W"]:
        if name not in self._columns:
            raise ValueError(f"no table of {name} was kept while probing; pass ProbeSettings(table=True).")
        return self._joined[1][name]

    @property
    def _joined(self) -> tuple[Tensor, dict[str, Tensor]]:
        """All rows sorted by image, joined once."""
        if not self._images:
            return torch.empty(0, dtype=torch.long), {}
        if len(self._images) > 1:
            joined = torch.cat(self._images)
            order = joined.argsort(stable=True)
            self._images = [joined[order]]
            self._columns = {name: [torch.cat(rows)[order]] for name, rows in self._columns.items()}
        return self._images[0], {name: rows[0] for name, rows in self._columns.items()}

    def state(self) -> dict[str, Tensor]:
        """Return all tensors of the table by name."""
        images, columns = self._joined
        return {"images": images, **{f"column.{name}": rows for name, rows in columns.items()}}

    def load(self, state: dict[str, Tensor]) -> None:
        """Restore the table from `state`."""
        self._images = [state["images"]] if len(state["images"]) else []
        self._columns = {n.removeprefix("column."): [t] for n, t in state.items() if n.startswith("column.")}
