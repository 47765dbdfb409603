"""Keep the caller's random state unchanged while models are loaded, which draws random initial weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch


@contextmanager
def preserved_random_state() -> Iterator[None]:
    """Restore torch's global random state, of the CPU and of every CUDA device in use, at the end.

    Example:
        >>> torch.manual_seed(0).initial_seed()
        0
        >>> with preserved_random_state():
        ...     _ = torch.rand(3)
        >>> torch.equal(torch.rand(3), torch.rand(3, generator=torch.Generator().manual_seed(0)))
        True
    """
    used = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    with torch.random.fork_rng(devices=list(range(torch.cuda.device_count())) if used else []):
        yield
