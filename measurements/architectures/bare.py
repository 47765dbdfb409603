"""The bare model: its errors, and the inputs it takes."""

from __future__ import annotations

import torch
from torch import nn

from torchnle.vision.running import evaluating

#: The errors that models raise.
FAILURES = (
    RuntimeError, ValueError, TypeError, AttributeError, LookupError, AssertionError, ImportError, OSError,
    MemoryError,
)  # fmt: skip


def takes(model: nn.Module, size: tuple[int, int]) -> bool:
    """Return whether a bare model runs on an image of a size (height, width).

    Example:
        >>> takes(nn.Conv2d(3, 4, 8), (8, 8)), takes(nn.Conv2d(3, 4, 8), (7, 8))
        (True, False)
    """
    try:
        with evaluating(model), torch.no_grad():
            model(torch.rand(1, 3, *size, generator=torch.Generator().manual_seed(0)))
    except FAILURES:
        return False
    return True


def sentence(error: BaseException) -> str:
    """Format an error in one line.

    Example:
        >>> sentence(ValueError("too   small"))
        'ValueError: too small'
    """
    return f"{type(error).__name__}: {' '.join(str(error).split())[:400]}"
