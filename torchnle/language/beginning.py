"""What all rows begin with is read once."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import Cache


def one_row_cache() -> Cache:
    """Return an empty cache that keeps one row, read on its own, for all, and nothing of what follows it."""
    from transformers import Cache

    return Cache(layer_class_to_replicate=_layer())


@cache
def _layer() -> type:
    from transformers.cache_utils import DynamicLayer

    class Beginning(DynamicLayer):  # type: ignore[misc]
        """Keys and values of one row, which come before those of every row."""

        def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            """Keep a row that comes first and alone, and put it before what comes later."""
            rows = len(key_states)
            if self.get_seq_length():
                keys, values = (kept.expand(rows, -1, -1, -1) for kept in (self.keys, self.values))
                return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)
            if rows == 1:
                return super().update(key_states, value_states, *args, **kwargs)
            return key_states, value_states

    return Beginning
