"""Checkpoints that are complete or absent, so that a killed run can resume."""

from __future__ import annotations

import os
import pickle
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

_WAY_OUT = "Delete it to begin anew, or give another folder."


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
    """Read a checkpoint (tensors and plain values only); None where there is none.

    Raises:
        ValueError: If it is damaged, or no checkpoint.
    """
    if not path.is_file():
        return None
    try:
        state: object = torch.load(path, weights_only=True, map_location="cpu")
    except (OSError, EOFError, RuntimeError, ValueError, KeyError, pickle.UnpicklingError) as error:
        reason = str(error).splitlines()[0][:200] if str(error) else "it is empty"
        raise ValueError(f"{path} is damaged, or no checkpoint: {reason}. {_WAY_OUT}") from error
    if not isinstance(state, dict):
        raise ValueError(f"{path} holds a {type(state).__name__}, which is no checkpoint. {_WAY_OUT}")
    return state


def require(state: dict[str, Any], names: Iterable[str], path: Path) -> None:
    """Refuse a checkpoint without some entries.

    Raises:
        ValueError: With their names.

    Example:
        >>> require({"step": 3}, ["step"], Path("run.pt"))
    """
    missing = [name for name in names if name not in state]
    if missing:
        raise ValueError(f"{path} is no checkpoint of such a run: it lacks {', '.join(missing)}. {_WAY_OUT}")
