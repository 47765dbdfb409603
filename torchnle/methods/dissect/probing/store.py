"""States of probing runs on disk, written atomically, found by a hash of everything that they depend on."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from torchnle.hub import leftovers

_log = logging.getLogger(__name__)
#: Raised with every change of what is kept, so that older files are not taken for newer ones.
_FORMAT = 1


@dataclass(frozen=True)
class Store:
    """One file for the range of batches that a process reads.

    Args:
        folder: The folder of the file.
        key: The hash of all that the numbers depend on.
        first: The first batch.
        last: The index after the last batch.
    """

    folder: Path
    key: str
    first: int
    last: int

    @property
    def file(self) -> Path:
        """The file of this range."""
        return self.folder / f"{self.key[:32]}.{self.first}-{self.last}.safetensors"

    def write(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> bool:
        """Replace the stored state; return False, with a warning, if the file cannot be written."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._replace(save({n: t.contiguous() for n, t in tensors.items()}, {"facts": json.dumps(facts)}))
        except OSError as error:
            _log.warning(
                "the probing state was not saved (%s); the run goes on, and cannot be resumed.", error
            )
            return False
        return True

    def read(self) -> tuple[dict[str, Tensor], dict[str, Any]] | None:
        """Read the state; None where there is none, or it is damaged."""
        try:
            with safe_open(self.file, framework="pt") as opened:
                facts = json.loads(opened.metadata()["facts"])
                return {name: opened.get_tensor(name) for name in opened.keys()}, facts  # noqa: SIM118
        except (OSError, SafetensorError, KeyError, TypeError, ValueError):
            return None

    def _replace(self, content: bytes) -> None:
        with leftovers.replacing(self.file) as scratch:
            scratch.write_bytes(content)


def key_of(parts: Sequence[object]) -> str:
    """Hash the facts that a run's numbers depend on.

    Example:
        >>> key_of(["a", 1]) == key_of(["a", 2])
        False
    """
    return hashlib.sha256(repr((_FORMAT, *parts)).encode()).hexdigest()
