"""The pairs of each step, as a function of the seed and the step only, so that any step can be repeated."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from torchnle.training.randomness import generator

#: The number of batches within which pairs of one shard are shuffled (DeViL's reference: 100 batches).
_WINDOW = 100


@dataclass(frozen=True)
class Part:
    """A range of pairs that is read during some steps.

    Args:
        items: The numbers of its pairs.
        start: The first step that reads it.
        stop: The first step that no longer does; None = to the end.
    """

    items: range
    start: int = 0
    stop: int | None = None

    def reads(self, step: int) -> bool:
        """Return whether a step draws from this part."""
        return self.start <= step and (self.stop is None or step < self.stop)


class Order:
    """The order of training pairs: every pair once per epoch, shuffled anew in every epoch.

    Args:
        parts: The ranges of pairs and their steps; steps that draw from the same parts are a stage, with
            epochs of its own.
        steps: The number of steps.
        batch_size: Pairs per step.
        seed: Seeds the shuffles.
        chunks: The shard of each pair. If given, whole shards are shuffled, and pairs within a window of 100
            batches, so that a tar file is read almost sequentially.

    Raises:
        ValueError: If a step has no part to draw from.

    Example:
        >>> order = Order([Part(range(3))], steps=9, batch_size=3, seed=0)
        >>> sorted(order.batch(0)), sorted(order.batch(7))
        ([0, 1, 2], [0, 1, 2])
    """

    def __init__(
        self,
        parts: Sequence[Part],
        *,
        steps: int,
        batch_size: int,
        seed: int,
        chunks: Sequence[int] | None = None,
    ) -> None:
        self.parts, self.batch_size, self.seed = tuple(parts), batch_size, seed
        self._chunks = None if chunks is None else torch.tensor(chunks)
        self._stages = sorted({0, *(p.start for p in parts), *(p.stop for p in parts if p.stop is not None)})
        self._shuffled = lru_cache(maxsize=2)(self._shuffle)
        for stage in self._stages:
            if stage < steps and not len(self._items(stage)):
                raise ValueError(
                    f"from step {stage} on there is no data: pass a part that starts at 0, and one without "
                    "stop."
                )

    def batch(self, step: int) -> list[int]:
        """Return the pairs of a step."""
        stage = max(first for first in self._stages if first <= step)
        items = self._items(stage)
        start = (step - stage) * self.batch_size
        positions = torch.arange(start, start + self.batch_size)
        epochs, within = positions // len(items), positions % len(items)
        return [
            int(self._shuffled(stage, epoch)[position])
            for epoch, position in zip(epochs.tolist(), within.tolist(), strict=True)
        ]

    def _items(self, step: int) -> Tensor:
        chosen = [torch.arange(p.items.start, p.items.stop) for p in self.parts if p.reads(step)]
        return torch.cat(chosen) if chosen else torch.empty(0, dtype=torch.long)

    def _shuffle(self, stage: int, epoch: int) -> Tensor:
        source = generator("order", self.seed, stage, epoch)
        items = self._items(stage)
        if self._chunks is None:
            return items[torch.randperm(len(items), generator=source)]
        chunks = self._chunks[items]
        by_chunk = torch.rand(int(self._chunks.max()) + 1, generator=source)[chunks].argsort(stable=True)
        windows = torch.arange(len(items)) // (_WINDOW * self.batch_size)
        return items[by_chunk][(windows + torch.rand(len(items), generator=source)).argsort()]
