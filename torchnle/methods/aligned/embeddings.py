"""A cache on disk of the sentence embeddings of phrases."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path

import torch
from huggingface_hub.constants import HF_HOME
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor
from tqdm import tqdm

from torchnle.hub import leftovers
from torchnle.language.text_encoder import TextEncoder

#: Phrases that are encoded at once; a bar is shown where there are more blocks than one.
BLOCK = 8192
#: Fewer phrases than this are encoded anew each time.
_WORTH_KEEPING = 64
#: The most bytes that are kept; what was not used for longest goes first.
_MOST = 1 << 30


def embed_cached(encoder: TextEncoder, phrases: Sequence[str]) -> Float[Tensor, "P k"]:
    """Encode phrases block by block, or read their embeddings from the cache on disk.

    The cache is keyed by a hash of encoder and phrases. An encoder without a reference or without weights
    cannot be identified, so its embeddings are not cached. A file that cannot be read or written is ignored.

    Args:
        encoder: The sentence encoder.
        phrases: The phrases, at least one.

    Returns:
        Unit vectors in float32, on the encoder's device.
    """
    listed = list(phrases)
    blocks = [listed[start : start + BLOCK] for start in range(0, len(listed), BLOCK)]
    shown = tqdm(blocks, desc="encoding phrases", disable=len(blocks) < 2 or not sys.stderr.isatty())
    return torch.cat([_block(encoder, block) for block in shown])


def _block(encoder: TextEncoder, phrases: list[str]) -> Float[Tensor, "P k"]:
    fingerprint = getattr(encoder, "fingerprint", None)
    if not encoder.reference or fingerprint is None or len(phrases) < _WORTH_KEEPING:
        return encoder.encode(phrases).float()
    file = cache_folder() / f"{_key(encoder, fingerprint, phrases)}.safetensors"
    vectors = _read(file, (len(phrases), encoder.width))
    if vectors is None:
        vectors = encoder.encode(phrases).float()
        _write(file, vectors)
    return vectors.to(encoder.device)


def cache_folder() -> Path:
    """Return the folder in which embeddings are cached."""
    return Path(HF_HOME) / "torchnle" / "embeddings"


def _key(encoder: TextEncoder, fingerprint: bytes, phrases: list[str]) -> str:
    settings = [
        str(getattr(encoder, name, ""))
        for name in ("reference", "pooling", "max_length", "prompt", "lower_case")
    ]
    content = json.dumps([type(encoder).__name__, *settings, *phrases]).encode()
    return hashlib.sha256(content + fingerprint).hexdigest()


def _read(file: Path, shape: tuple[int, int]) -> Tensor | None:
    try:
        found = load(file.read_bytes())["vectors"]
    except (OSError, SafetensorError, KeyError):
        return None
    whole = tuple(found.shape) == shape and bool(found.isfinite().all())
    if whole:
        with contextlib.suppress(OSError):
            os.utime(file)  # used now
    return found if whole else None


def _write(file: Path, vectors: Tensor) -> None:
    with contextlib.suppress(OSError):
        with leftovers.replacing(file) as scratch:
            scratch.write_bytes(save({"vectors": vectors.cpu().contiguous()}))
        forget(file.parent, _MOST)


def forget(folder: Path, most: int) -> None:
    """Remove the least recently used files of a folder until its size is at most a limit.

    Args:
        folder: The folder.
        most: The limit, in bytes.

    Example:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> for second, name in enumerate("abc"):
        ...     _ = (folder / f"{name}.safetensors").write_bytes(bytes(10))
        ...     os.utime(folder / f"{name}.safetensors", (second, second))
        >>> forget(folder, most=25)
        >>> sorted(path.name for path in folder.iterdir())
        ['b.safetensors', 'c.safetensors']
    """
    stats = [(path, path.stat()) for path in folder.glob("*.safetensors")]
    left = sum(stat.st_size for _, stat in stats)
    for path, stat in sorted(stats, key=lambda pair: pair[1].st_mtime):
        if left <= most:
            return
        path.unlink(missing_ok=True)
        left -= stat.st_size
