"""Rows in groups that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor


def batches(rows: Tensor, size: int | None) -> Iterator[Tensor]:
    """Split rows into groups of at most `size`; None = one group. No rows, no groups.

    Raises:
        ValueError: If `size` is not positive.

    Example:
        >>> import torch
        >>> [len(group) for group in batches(torch.zeros(5, 2), 2)]
        [2, 2, 1]
    """
    if size is not None and size < 1:
        raise ValueError(f"internal_batch_size={size}; pass a positive number, or None for all rows at once.")
    step = size or max(1, len(rows))
    return (rows[start : start + step] for start in range(0, len(rows), step))
