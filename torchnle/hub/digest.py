"""Hashes of files, read in pieces, and of tensors and modules."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor, nn

_PIECE = 1 << 20
#: What Python prints of a function or an object: it differs from process to process.
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def sha256(path: Path) -> str:
    """Compute the SHA-256 of a file, as 64 hexadecimal digits."""
    return _update(hashlib.sha256(), path)


def git_blob(path: Path) -> str:
    """Compute git's id of a file, by which the Hub names files outside LFS: 40 hexadecimal digits.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     _ = Path(folder, "a").write_bytes(b"what is up, doc?")
        ...     git_blob(Path(folder, "a"))  # the example of the book Pro Git, section 10.2
        'bd9dbf5aae1a3862dd1526723246b20206e5fc37'
    """
    header = b"blob %d\0" % path.stat().st_size
    return _update(hashlib.sha1(header, usedforsecurity=False), path)


def digest_tensors(tensors: Iterable[Tensor]) -> str:
    """Compute the SHA-256 of tensors: their dtypes, shapes and values.

    Example:
        >>> digest_tensors([torch.zeros(2)]) == digest_tensors([torch.zeros(2)])
        True
    """
    found = hashlib.sha256()
    for tensor in tensors:
        found.update(f"{tensor.dtype} {tuple(tensor.shape)}".encode() + _bytes(tensor))
    return found.hexdigest()


def digest_module(module: nn.Module) -> str:
    """Compute the SHA-256 of a module: its classes and settings as it prints them, and all its tensors.

    Example:
        >>> one, other = nn.Linear(2, 2), nn.Linear(2, 2)
        >>> digest_module(one) == digest_module(one), digest_module(one) == digest_module(other)
        (True, False)
    """
    found = hashlib.sha256(_ADDRESS.sub("", repr(module)).encode())
    for name, tensor in module.state_dict().items():
        if isinstance(tensor, Tensor):  # a module may keep other things in its extra state
            found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode() + _bytes(tensor))
    return found.hexdigest()


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().flatten()
    return flat.view(torch.uint8).numpy().tobytes() if flat.numel() else b""


def _update(state: hashlib._Hash, path: Path) -> str:
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            state.update(piece)
    return state.hexdigest()
