"""A key-value cache for the first token, which all rows share."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import Cache


def one_row_cache() -> Cache:
    """Return an empty cache that stores the first tokens read, for all rows, and nothing of later calls."""
    from transformers import Cache

    return Cache(layer_class_to_replicate=_layer())


@cache
def _layer() -> type:
    from transformers.cache_utils import DynamicLayer

    class SharedToken(DynamicLayer):  # type: ignore[misc]
        """Keys and values of one row, which come before those of every row."""

        def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> Any:
            """Keep what comes first, one row, and put it before what comes later."""
            if self.get_seq_length() == 0:
                return super().update(key_states, value_states, *args, **kwargs)
            keys, values = (kept.expand(len(key_states), -1, -1, -1) for kept in (self.keys, self.values))
            return torch.cat([keys, key_states], dim=2), torch.cat([values, value_states], dim=2)

    return SharedToken
