"""Checkpoints that are complete or absent, so that a killed run can resume."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch


def save(state: dict[str, Any], path: Path) -> None:
    """Write a checkpoint to a temporary file and rename it; on failure the former one stays.

    Raises:
        OSError: If it cannot be written, for example on a full disk; no partial file is left.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "new" / "run.pt"
        >>> save({"step": 3}, path)
        >>> load(path)
        {'step': 3}
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    try:
        torch.save(state, unfinished)
    except (OSError, RuntimeError) as error:  # torch's own writer raises RuntimeError if the disk is full
        unfinished.unlink(missing_ok=True)
        raise OSError(f"{path} could not be written, the one before stays: {error}") from error
    os.replace(unfinished, path)


def load(path: Path) -> dict[str, Any] | None:
    """Read a checkpoint (tensors and plain values only); None if there is none."""
    if not path.is_file():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True)
    return state
