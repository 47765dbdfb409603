"""Failures to write, with the name of the file."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Re-raise failures to write with the name of the file or folder.

    Raises:
        OSError: Of the kind that was raised: PermissionError, ...
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        stated = re.search(r"os error (\d+)", str(error))
        number = int(stated[1]) if stated else getattr(error, "errno", None)
        reason = os.strerror(number) if number else str(error)
        message = (
            f"could not be saved: {reason}. Free space there, or save into a folder that you may write to"
        )
        raise (OSError(number, message, str(path)) if number else OSError(f"{path} {message}.")) from error
