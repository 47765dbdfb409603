"""A replacement of the key-value cache for models that must be read plainly: it stores the embeddings."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor


class History:
    """The embeddings that each row has read, which are read again with every new token.

    It has the methods of transformers' caches that torchnle calls, so that the same code reads every model.

    Example:
        >>> history = History()
        >>> history.extend(torch.zeros(2, 3, 4)).shape, history.get_seq_length()
        (torch.Size([2, 3, 4]), 3)
    """

    def __init__(self) -> None:
        self._embeds: Tensor | None = None

    def extend(self, embeds: Float[Tensor, "R L E"]) -> Float[Tensor, "R all E"]:
        """Append new embeddings, and return all embeddings so far."""
        self._embeds = embeds if self._embeds is None else torch.cat([self._embeds, embeds], dim=1)
        return self._embeds

    def get_seq_length(self) -> int:
        """Count the embeddings of a row."""
        return 0 if self._embeds is None else self._embeds.shape[1]

    def batch_select_indices(self, rows: Int[Tensor, "B"]) -> None:
        """Keep some rows."""
        if self._embeds is not None:
            self._embeds = self._embeds[rows]

    def batch_repeat_interleave(self, repeats: int) -> None:
        """Repeat every row."""
        if self._embeds is not None:
            self._embeds = self._embeds.repeat_interleave(repeats, dim=0)

    def crop(self, length: int) -> None:
        """Keep the first `length` embeddings; a negative length removes as many at the end."""
        if self._embeds is not None:
            self._embeds = self._embeds[:, :length]
