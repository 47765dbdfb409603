"""Sentence embeddings of lists of phrases, kept on disk, so that a second start encodes nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from tempfile import NamedTemporaryFile

import torch
from huggingface_hub.constants import HF_HOME
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn
from tqdm import tqdm

from torchnle.language.text_encoder import TextEncoder

#: Phrases that are encoded at once; a bar is shown where there are more blocks than one.
BLOCK = 8192
#: Fewer phrases than this are encoded anew each time.
_WORTH_KEEPING = 64


def embed_cached(encoder: TextEncoder, phrases: Sequence[str]) -> Float[Tensor, "P k"]:
    """Encode phrases block by block, and keep the result in the cache under a hash of encoder and phrases.

    Encoders are told apart by their weights. A file that cannot be read or written is passed over.

    Args:
        encoder: The sentence encoder.
        phrases: The phrases, at least one.

    Returns:
        Unit vectors in float32, on the encoder's device.
    """
    listed = list(phrases)
    blocks = [listed[start : start + BLOCK] for start in range(0, len(listed), BLOCK)]
    shown = tqdm(blocks, desc="encoding phrases", disable=len(blocks) < 2)
    return torch.cat([_block(encoder, block) for block in shown])


def _block(encoder: TextEncoder, phrases: list[str]) -> Float[Tensor, "P k"]:
    if not isinstance(getattr(encoder, "model", None), nn.Module) or len(phrases) < _WORTH_KEEPING:
        return encoder.encode(phrases).float()
    file = cache_folder() / f"{_key(encoder, phrases)}.safetensors"
    kept = _read(file, (len(phrases), encoder.width))
    if kept is None:
        kept = encoder.encode(phrases).float()
        _write(file, kept)
    return kept.to(encoder.device)


def cache_folder() -> Path:
    """Name the folder in which embeddings are kept, beside the Hub's cache."""
    return Path(HF_HOME) / "torchnle" / "embeddings"


def _key(encoder: TextEncoder, phrases: list[str]) -> str:
    sums = [float(weight.double().sum()) for weight in encoder.model.state_dict().values()]
    settings = [encoder.pooling, str(encoder.max_length), repr(sums)]
    content = "\0".join([*settings, *phrases]).encode("utf-8", "surrogatepass")
    return hashlib.sha256(content).hexdigest()


def _read(file: Path, shape: tuple[int, int]) -> Tensor | None:
    try:
        found = load(file.read_bytes())["vectors"]
    except (OSError, SafetensorError, KeyError):
        return None
    whole = tuple(found.shape) == shape and bool(found.isfinite().all())
    return found if whole else None


def _write(file: Path, vectors: Tensor) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with NamedTemporaryFile(dir=file.parent, prefix=".", delete=False) as scratch:
            scratch.write(save({"vectors": vectors.cpu().contiguous()}))
        os.replace(scratch.name, file)
    except OSError:
        return
