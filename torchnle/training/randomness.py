"""Random generators seeded by names and numbers only, independent of earlier draws."""

from __future__ import annotations

from hashlib import sha256

import torch


def generator(*parts: int | str) -> torch.Generator:
    """Return a random generator for a tuple of parts, such as a seed and a step.

    Example:
        >>> first, again, other = generator(0, 7), generator(0, 7), generator(7, 0)
        >>> a, b, c = (torch.rand(1, generator=source) for source in (first, again, other))
        >>> bool(a == b), bool(a == c)
        (True, False)
    """
    seed = int.from_bytes(sha256(repr(parts).encode()).digest()[:8], "big") >> 1
    return torch.Generator().manual_seed(seed)
