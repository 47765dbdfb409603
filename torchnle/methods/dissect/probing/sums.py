"""Sums over batches that are bitwise equal, however the batches are divided among processes."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

#: Sums of several quantities, by name.
Parts = Mapping[str, Tensor]


class DyadicSums:
    """Adds up batches along a fixed binary tree, in float64.

    Floating-point sums depend on their order. Here the sum of batches 2i and 2i + 1 is formed first, then
    that of four, and so on, by whichever process has them; as many nodes are kept as a binary number has
    digits.
    So a resumed run, and any number of processes, give the bits of one undisturbed run.

    Example:
        >>> import torch
        >>> sums = DyadicSums()
        >>> for batch in (2, 0, 1):
        ...     sums.add(batch, {"x": torch.tensor(batch + 1.0)})
        >>> sums.total()["x"]
        tensor(6., dtype=torch.float64)
    """

    def __init__(self) -> None:
        self.nodes: dict[tuple[int, int], dict[str, Tensor]] = {}

    def add(self, batch: int, parts: Parts) -> None:
        """Add the sums of one batch.

        Args:
            batch: Its number.
            parts: What is summed, each over the batch's images.
        """
        self._insert((0, batch), {name: part.double() for name, part in parts.items()})

    def merge(self, other: DyadicSums) -> None:
        """Merge another process's sums over other batches."""
        for node, parts in other.nodes.items():
            self._insert(node, parts)

    def total(self) -> dict[str, Tensor]:
        """Add up everything there is, from the first batch on; {} where there is nothing."""
        found: dict[str, Tensor] = {}
        for node in sorted(self.nodes, key=lambda node: node[1] << node[0]):
            parts = self.nodes[node]
            found = {name: found[name] + part if found else part for name, part in parts.items()}
        return found

    def state(self) -> dict[str, Tensor]:
        """Return every node's sums, by level, index and name."""
        return {
            f"{level}.{i}.{name}": t for (level, i), parts in self.nodes.items() for name, t in parts.items()
        }

    def load(self, state: Mapping[str, Tensor]) -> None:
        """Restore the sums from `state`."""
        self.nodes = {}
        for key, tensor in state.items():
            level, index, name = key.split(".", 2)
            self.nodes.setdefault((int(level), int(index)), {})[name] = tensor

    def _insert(self, node: tuple[int, int], parts: dict[str, Tensor]) -> None:
        level, index = node
        while (sibling := self.nodes.pop((level, index ^ 1), None)) is not None:
            parts = {name: part + sibling[name] for name, part in parts.items()}
            level, index = level + 1, index >> 1
        self.nodes[level, index] = parts
