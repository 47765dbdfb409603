"""Rows in groups that fit into memory."""

from __future__ import annotations

from collections.abc import Iterator

from torch import Tensor

#: The default number of rows at a time on a CPU: enough that the matrix products run at full speed, few
#: enough that keys, values and activations stay small. A GPU takes all.
_CPU_ROWS = 128


def batches(rows: Tensor, size: int | None, *, on_cpu: int = _CPU_ROWS) -> Iterator[Tensor]:
    """Split rows into groups of at most `size`; no rows give no groups.

    Args:
        rows: Anything with rows first.
        size: The largest number of rows of a group; None = at most `on_cpu` on a CPU, in groups of similar
            size, and all rows on other devices.
        on_cpu: The largest number of rows of a group on a CPU if `size` is None.

    Raises:
        ValueError: If `size` is not positive.

    Example:
        >>> import torch
        >>> [len(group) for group in batches(torch.zeros(5, 2), 2)]
        [2, 2, 1]
    """
    step = row_limit(size, rows, on_cpu=on_cpu)
    if size is None:  # the last group of a fixed size could be small, and small products are slow
        step = -(-len(rows) // max(1, -(-len(rows) // step))) or 1
    return (rows[start : start + step] for start in range(0, len(rows), step))


def row_limit(size: int | None, rows: Tensor, *, on_cpu: int = _CPU_ROWS) -> int:
    """Return the largest number of rows at a time: `size`, or what suits the device of `rows`.

    Raises:
        ValueError: If `size` is not positive.
    """
    if size is None:
        return on_cpu if rows.device.type == "cpu" else max(1, len(rows))
    if size < 1:
        raise ValueError(
            f"internal_batch_size={size}; pass a positive number, or None for what suits the device."
        )
    return size
