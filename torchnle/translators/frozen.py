"""Frozen models named by a saved translator: by reference, and by the hash of the loaded weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from torchnle import hub
from torchnle.errors import TranslatorMismatchError
from torchnle.hub.digest import sha256 as file_digest
from torchnle.translators import serialization


def fingerprint(folder: Path) -> str:
    """Hash the weights and the configuration of a saved folder, its card aside: 64 hexadecimal digits."""
    config = json.loads((folder / serialization.CONFIG).read_text(encoding="utf-8"))["config"]
    parts = [file_digest(folder / serialization.WEIGHTS), json.dumps(config, sort_keys=True)]
    return sha256("\n".join(parts).encode()).hexdigest()


def stated(reference: str, tensors: Mapping[str, Tensor], what: str) -> dict[str, str]:
    """Build the entry of a frozen model in a configuration: its reference and its hash.

    Args:
        reference: Its reference for `from_pretrained`.
        tensors: The model's current tensors.
        what: Its name in messages.

    Raises:
        ValueError: If it has no reference, or differs from the model of that reference.
    """
    if not reference:
        raise ValueError(
            f"{what} has no reference, so a saved translator could not name it. Save it, and load it with "
            "from_pretrained."
        )
    folder = hub.resolve(reference)
    saved = serialization.read(folder).tensors
    differ = [name for name, tensor in tensors.items() if not _same(tensor, saved.get(name))]
    if differ:
        raise ValueError(
            f"{what} differs from '{reference}' (in {', '.join(differ[:3])}), so a saved "
            "translator could not name it. Save it as it is now, and load it with from_pretrained."
        )
    path = Path(reference).expanduser()
    return {
        "reference": str(path.resolve()) if path.exists() else reference,
        "sha256": fingerprint(folder),
    }


def check(given: Mapping[str, Any], what: str) -> None:
    """Refuse a frozen model whose weights have changed since the configuration was saved.

    Raises:
        TranslatorMismatchError: If the hashes differ.
        ValueError: If the entry does not have the form that `stated` returns.
    """
    if given.keys() != {"reference", "sha256"}:
        raise ValueError(f"{what} is stated by {sorted(given)}; it must be by 'reference' and 'sha256'.")
    found = fingerprint(hub.resolve(given["reference"]))
    if found != given["sha256"]:
        raise TranslatorMismatchError(
            f"{what} '{given['reference']}' is not the one used in training: its hash is "
            f"{found[:12]}..., not {given['sha256'][:12]}... Pass the version used in training "
            "(org/name@revision), or train again."
        )


def _same(tensor: Tensor, saved: Tensor | None) -> bool:
    return saved is not None and torch.equal(tensor.detach().cpu().float(), saved.float())
